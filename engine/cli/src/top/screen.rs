//! The terminal and its keys. Whatever ends the program, a panic included, gives the terminal back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::TryRecvError;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::layout::Rect;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::model::Model;
use super::poll::Poller;
use super::view::{self, Choice};
use crate::failure::Outcome;

/// How often the screen is drawn anew while nobody presses a key: ages go on between polls.
const DRAW_EVERY: Duration = Duration::from_millis(200);

/// Gives the terminal back when it is dropped. For panics `ratatui::try_init` has set a hook, which also
/// runs where they abort; to do it twice would write over what they said.
struct Restore;

impl Drop for Restore {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            ratatui::restore();
        }
    }
}

/// Shows the screen until a key or a signal ends it.
pub fn run(mut model: Model, poller: Poller) -> Outcome {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).context("watch signals")?;
    }
    let start = poller.start();
    let samples = poller.run(model.interval);
    let _restore = Restore;
    let mut terminal = ratatui::try_init().context("take the terminal")?;
    let mut choice = Choice::default();
    // What is shown while the screen is paused; polls go on, so that nothing is missed.
    let mut frozen: Option<Model> = None;
    while !stop.load(Ordering::Relaxed) {
        loop {
            match samples.try_recv() {
                Ok(sample) => model.absorb(sample),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    return Err(anyhow!("the thread that polls has ended").into());
                }
            }
        }
        model.tick(start.elapsed());
        match (choice.paused, &frozen) {
            (true, None) => frozen = Some(model.clone()),
            (false, Some(_)) => frozen = None,
            (true, Some(_)) | (false, None) => {}
        }
        let shown = frozen.as_ref().unwrap_or(&model);
        let mut area = Rect::default();
        terminal.draw(|frame| {
            area = frame.area();
            choice.scroll = choice.scroll.min(view::scroll_max(shown, area));
            *frame.buffer_mut() = view::frame(shown, choice, area);
        })?;
        let mut wait = DRAW_EVERY;
        while event::poll(wait)? {
            if let Event::Key(key) = event::read()?
                && press(key, &mut choice, view::scroll_max(shown, area))
            {
                return Ok(());
            }
            // Keys that are held down are all taken before the next drawing.
            wait = Duration::ZERO;
        }
    }
    Ok(())
}

/// What a key does; tells whether it ends the program.
fn press(key: KeyEvent, choice: &mut Choice, scroll_max: usize) -> bool {
    if key.kind == KeyEventKind::Release {
        return false;
    }
    let with_control = key.modifiers.contains(KeyModifiers::CONTROL);
    match key.code {
        KeyCode::Char('c') if with_control => return true,
        KeyCode::Char('q') => return true,
        KeyCode::Char('p') => choice.paused = !choice.paused,
        KeyCode::Char('?') => choice.help = !choice.help,
        KeyCode::Esc => choice.help = false,
        KeyCode::Char('j') | KeyCode::Down => choice.scroll = (choice.scroll + 1).min(scroll_max),
        KeyCode::Char('k') | KeyCode::Up => choice.scroll = choice.scroll.saturating_sub(1),
        _ => {}
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pressed(choice: &mut Choice, code: KeyCode) -> bool {
        press(KeyEvent::from(code), choice, 2)
    }

    #[test]
    fn q_and_control_c_end_it_and_c_does_not() {
        let mut choice = Choice::default();
        assert!(pressed(&mut choice, KeyCode::Char('q')));
        assert!(!pressed(&mut choice, KeyCode::Char('c')));
        let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert!(press(control_c, &mut choice, 0));
    }

    #[test]
    fn scrolling_stays_where_there_are_replicas() {
        let mut choice = Choice::default();
        for (code, scroll) in [
            (KeyCode::Up, 0),
            (KeyCode::Char('j'), 1),
            (KeyCode::Down, 2),
            (KeyCode::Down, 2),
            (KeyCode::Char('k'), 1),
        ] {
            assert!(!pressed(&mut choice, code));
            assert_eq!(choice.scroll, scroll);
        }
    }

    #[test]
    fn p_and_the_question_mark_toggle_and_escape_closes_the_help() {
        let mut choice = Choice::default();
        let seen = [
            (KeyCode::Char('p'), (true, false)),
            (KeyCode::Char('?'), (true, true)),
            (KeyCode::Esc, (true, false)),
            (KeyCode::Char('p'), (false, false)),
        ];
        for (code, expected) in seen {
            pressed(&mut choice, code);
            assert_eq!((choice.paused, choice.help), expected);
        }
    }
}
