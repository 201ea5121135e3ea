//! Screens of made-up clusters, compared with text files in `snapshots/`. `QUORATE_BLESS=1` writes them anew:
//! look at what has changed before it is committed.

use std::fs;
use std::path::Path;

use quorate_client::reshard::record::Status as PlanStatus;
use quorate_config::Hosts;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::layout::Rect;

use super::fixture::{Fake, config, plan};
use super::model::Model;
use super::view::{self, Choice};

/// The screen as a terminal of this size would show it.
fn shown(model: &Model, choice: Choice, columns: u16, rows: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
    let draw = |frame: &mut ratatui::Frame<'_>| {
        *frame.buffer_mut() = view::frame(model, choice, frame.area());
    };
    terminal.draw(draw).unwrap();
    view::text_of(terminal.backend().buffer())
}

fn check(name: &str, model: &Model, choice: Choice, columns: u16, rows: u16) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/top/snapshots");
    let name = format!("{name}-{columns}x{rows}.txt");
    let path = directory.join(&name);
    let shown = shown(model, choice, columns, rows);
    if std::env::var_os("QUORATE_BLESS").is_some() {
        fs::create_dir_all(&directory).unwrap();
        fs::write(&path, &shown).unwrap();
        return;
    }
    let expected = fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("snapshots/{name}: {error}; QUORATE_BLESS=1 writes it"));
    let mut lines = expected.lines().zip(shown.lines()).enumerate();
    if let Some((line, (expected, shown))) = lines.find(|(_, (a, b))| a != b) {
        panic!(
            "snapshots/{name}, line {}:\n  expected: {expected}\n  shown:    {shown}\nQUORATE_BLESS=1 writes it anew",
            line + 1
        );
    }
    let (old, new) = (expected.lines().count(), shown.lines().count());
    assert_eq!(
        old, new,
        "lines of snapshots/{name}; QUORATE_BLESS=1 writes it anew"
    );
}

/// A minute of load that goes up and down.
fn busy(mut fake: Fake, seconds: u64) -> Fake {
    for second in 0..seconds {
        let wave = second % 20;
        fake.work(3_000 + 100 * wave.min(20 - wave), 400 - 10 * wave);
        fake.poll();
    }
    fake
}

/// Node 3 ends, the shard that it led gets another leader, and moves go on all the while.
fn troubled() -> Fake {
    let mut fake = busy(Fake::new(3, 3, 3), 40);
    fake.plan = Ok(Some(plan(PlanStatus::Running, 400)));
    fake.work(3_000, 300);
    fake.poll();
    fake.kill(3);
    for _ in 0..3 {
        fake.work(2_000, 200);
        fake.poll();
    }
    let led = fake.model.shards.iter().find(|it| it.leader.is_none());
    let shard = led.expect("node 3 led a shard").id;
    fake.elect(shard.0, 1);
    fake.poll();
    fake.plan = Ok(Some(plan(PlanStatus::Running, 1_200)));
    for _ in 0..12 {
        fake.work(2_400, 300);
        fake.status(1, 1).in_doubt = 4;
        fake.poll();
    }
    fake.work(2_400, 300);
    let slow = fake.status(1, 2);
    slow.chosen_upto.0 -= 840;
    slow.applied_upto = slow.chosen_upto;
    fake.status(2, 1).applied_upto.0 -= 300;
    fake.poll();
    fake
}

const PLAIN: Choice = Choice {
    scroll: 0,
    paused: false,
    help: false,
};

#[test]
fn a_healthy_cluster() {
    let model = busy(Fake::new(3, 3, 3), 70).model;
    check("healthy", &model, PLAIN, 80, 24);
    check("healthy", &model, PLAIN, 120, 40);
    check("healthy", &model, PLAIN, 160, 50);
}

#[test]
fn a_node_that_is_down_and_moves_under_way() {
    let model = troubled().model;
    check("troubled", &model, PLAIN, 80, 24);
    check("troubled", &model, PLAIN, 160, 50);
}

#[test]
fn nothing_is_known_before_the_first_poll() {
    let model = Fake::new(3, 3, 3).model;
    check("unknown", &model, PLAIN, 80, 24);
}

#[test]
fn many_replicas_on_other_hosts_are_scrolled() {
    let addresses = [
        "192.0.2.1",
        "192.0.2.2",
        "192.0.2.3",
        "192.0.2.4",
        "192.0.2.5",
    ];
    let hosts = Hosts {
        addresses: addresses.map(|it| it.parse().unwrap()).to_vec(),
        key_file: Some("key".into()),
    };
    let model = busy(Fake::of(config(12, 5, 5, &hosts)), 5).model;
    let scrolled = Choice {
        scroll: 22,
        ..PLAIN
    };
    check("scrolled", &model, scrolled, 80, 24);
    check("scrolled", &model, scrolled, 160, 50);
}

#[test]
fn the_help_lies_above_all_and_a_pause_is_told() {
    let model = busy(Fake::new(3, 3, 3), 3).model;
    let choice = Choice {
        help: true,
        paused: true,
        ..PLAIN
    };
    check("help", &model, choice, 80, 24);
}

#[test]
fn a_screen_that_is_too_small_says_so() {
    let model = busy(Fake::new(3, 3, 3), 3).model;
    check("small", &model, PLAIN, 79, 24);
    check("small", &model, PLAIN, 80, 23);
    check("small", &model, PLAIN, 20, 4);
}

/// A terminal may have any size while somebody pulls at its corner.
#[test]
fn no_size_is_too_odd_to_draw() {
    for model in [troubled().model, Fake::new(1, 1, 1).model] {
        for (columns, rows) in [
            (0, 0),
            (1, 1),
            (0, 9),
            (9, 0),
            (80, 24),
            (81, 25),
            (119, 36),
        ] {
            let area = Rect::new(0, 0, columns, rows);
            let buffer = view::frame(&model, PLAIN, area);
            assert_eq!(buffer.area, area);
            assert!(view::scroll_max(&model, area) <= model.replicas.len());
        }
        for rows in 24..60 {
            for columns in [80, 100, 119, 120, 121, 200] {
                let area = Rect::new(0, 0, columns, rows);
                assert_eq!(view::frame(&model, PLAIN, area).area, area);
            }
        }
    }
}
