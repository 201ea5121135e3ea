//! What is in each window. Every number comes from the model; what that does not know is `n/a`.

use std::time::Duration;

use quorate_client::reshard::record::{Record, Status as PlanStatus};
use quorate_protocol::client::Role;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};

use super::super::format::{UNKNOWN, age, count, known, latency, rate, share};
use super::super::model::{Core, Grade, Model, Node, Plan, Replica, Shard};
use super::super::series::Series;
use super::grid::{Column, left, right};
use super::{BAD, BOLD, Choice, Content, DIM, Filled, GOOD, NOTABLE, Window, rows_below_titles};

/// Behind so many polls that did not come the screen says that it is old.
const POLLS_MISSED: u32 = 5;

/// Something in doubt is nothing to tell the duration of before.
const LONG: Duration = Duration::from_secs(10);

const SHARD_COLUMNS: &[Column] = &[
    left("shard", 5, 0),
    left("leader", 7, 0),
    left("ballot", 7, 1),
    right("chg", 3, 1),
    right("terms", 5, 4),
    right("rate", 7, 0),
    right("p99", 6, 0),
    right("cross", 6, 2),
    right("doubt", 5, 3),
    right("accounts", 8, 5),
    right("transfers", 9, 6),
];

const REPLICA_COLUMNS: &[Column] = &[
    left("replica", 7, 0),
    left("node", 4, 0),
    left("role", 10, 0),
    left("ballot", 8, 4),
    right("chosen", 10, 5),
    right("applied", 10, 6),
    right("apply", 6, 0),
    right("behind", 6, 0),
    left("note", 7, 3),
];

/// What `?` shows.
pub const HELP: &[&str] = &[
    "q, Ctrl-C    end",
    "p            stop the screen, and let it go on; polls go on meanwhile",
    "j k, arrows  scroll the replicas, and the shards with them",
    "?            this help",
    "",
    "chg     times that another replica was found leading a shard",
    "terms   times that another ballot was found leading it",
    "rate    committed transfers in a second, between two polls of one leader",
    "p99     of requests that a leader answered in the last second; worst leader",
    "doubt   transactions that are prepared and not decided",
    "apply   entries chosen and not yet applied by the replica",
    "behind  entries that the leader knows to be chosen and it does not",
    "n/a     nobody has told; a dot in a chart is a zero, a blank is n/a",
];

/// Title and content of a window whose inside is `inner`.
pub fn fill(window: Window, model: &Model, choice: Choice, inner: Rect) -> Filled {
    let width = usize::from(inner.width);
    let rows = usize::from(inner.height);
    match window {
        Window::Summary => summary(model),
        Window::Throughput => throughput(model, width),
        Window::P99 => p99(model, width),
        Window::CrossShare => cross_share(model, width),
        Window::InDoubt => in_doubt(model, width, rows),
        Window::Shards => shards(model, choice, rows_below_titles(inner)),
        Window::Replicas => replicas(model, choice, rows_below_titles(inner)),
        Window::Moves => moves(model, rows),
        Window::Cores => cores(model, width, rows),
        Window::Events => events(model, rows),
    }
}

/// What the one before the screen should know of the screen itself.
pub fn state(model: &Model, choice: Choice) -> Line<'static> {
    let old = model.polled.map(|polled| model.now.saturating_sub(polled));
    let patience = model.interval * POLLS_MISSED;
    let text = match old {
        _ if choice.paused => {
            Span::styled(" paused, p goes on ", BOLD.add_modifier(Modifier::REVERSED))
        }
        None => Span::styled(" first poll ", NOTABLE),
        Some(old) if old > patience => Span::styled(format!(" last poll {} ago ", age(old)), BAD),
        Some(_) => Span::styled(" ? help  q quit ", DIM),
    };
    Line::from(text)
}

fn summary(model: &Model) -> Filled {
    let interval = humantime::format_duration(model.interval);
    let title = format!("quorate top  cluster {}, every {interval} ", model.cluster);
    let all_of = |what: &str, part: Option<usize>, whole: usize, verb: &str| {
        let style = match part {
            None => Style::new(),
            Some(part) if part == whole => GOOD,
            Some(_) => BAD,
        };
        let text = known(part, |part| format!("{part}/{whole} {verb}"));
        vec![format!("{what} ").into(), Span::styled(text, style)]
    };
    let mut first = all_of("nodes", model.nodes_up(), model.nodes.len(), "up");
    first.push("   ".into());
    let serving = model.shards_serving();
    first.extend(all_of("shards", serving, model.shards.len(), "serve"));
    // Before what may be cut off on a narrow screen.
    first.extend(silent_nodes(model));
    let rest = format!(
        "   map epoch {}   accounts {}",
        known(model.epoch(), |epoch| epoch.to_string()),
        known(model.accounts(), count),
    );
    first.push(rest.into());
    let total = match model.total() {
        None => UNKNOWN.to_owned(),
        Some(total) if total.shards == model.shards.len() => rate(total.per_second),
        Some(total) => {
            let of = format!("{} of {} shards", total.shards, model.shards.len());
            format!("{} ({of})", rate(total.per_second))
        }
    };
    let second = Line::from(vec![
        "throughput ".into(),
        Span::styled(total, BOLD),
        "   p99 ".into(),
        Span::styled(worst_p99(model), BOLD),
        "   cross-shard ".into(),
        Span::styled(known(model.cross_share_now(), share), BOLD),
        "   in doubt ".into(),
        Span::styled(known(model.in_doubt_now(), count), BOLD),
    ]);
    Filled {
        title: Line::styled(title, BOLD),
        content: Content::Lines(vec![Line::from(first), second]),
    }
}

/// Each with the age of the last answer of one of its replicas; those that never gave one together.
fn silent_nodes(model: &Model) -> Vec<Span<'static>> {
    let down = || model.nodes.iter().filter(|it| it.up == Some(false));
    let since = |node: &Node| {
        let silent = age(model.now.saturating_sub(node.answered?));
        Some(format!("n{} down {silent}", node.id))
    };
    let mut texts: Vec<String> = down().filter_map(since).collect();
    let never = down().filter(|it| it.answered.is_none());
    let never: Vec<String> = never.map(|it| format!("n{}", it.id)).collect();
    if !never.is_empty() {
        texts.push(format!("never answered: {}", never.join(" ")));
    }
    match texts.is_empty() {
        true => Vec::new(),
        false => vec!["   ".into(), Span::styled(texts.join(", "), BAD)],
    }
}

fn worst_p99(model: &Model) -> String {
    known(model.worst_p99(), |(us, shard)| {
        format!("{} (s{shard})", latency(us))
    })
}

fn throughput(model: &Model, width: usize) -> Filled {
    let now = known(model.total(), |total| rate(total.per_second));
    chart("throughput", now, &model.throughput, rate, width, GOOD)
}

fn p99(model: &Model, width: usize) -> Filled {
    let now = worst_p99(model);
    chart("p99", now, &model.p99_us, latency, width, NOTABLE)
}

fn cross_share(model: &Model, width: usize) -> Filled {
    let now = known(model.cross_share_now(), share);
    let style = Style::new();
    chart("cross-shard", now, &model.cross_share, share, width, style)
}

fn chart(
    name: &str,
    now: String,
    series: &Series,
    text: impl FnOnce(u64) -> String,
    width: usize,
    style: Style,
) -> Filled {
    let most = known(series.highest(), text);
    let title = Line::from(vec![
        format!("{name} ").into(),
        Span::styled(now, BOLD),
        format!(", max {most} in 60s ").into(),
    ]);
    Filled {
        title,
        content: Content::Chart(series.columns(width), style),
    }
}

fn in_doubt(model: &Model, width: usize, rows: usize) -> Filled {
    let now = known(model.in_doubt_now(), count);
    let most = known(model.in_doubt.highest(), count);
    let title = Line::from(vec![
        "in doubt ".into(),
        Span::styled(now, BOLD),
        format!(", max {most} in 60s ").into(),
    ]);
    let cells = model.shards.iter().map(|it| in_doubt_of(model, it));
    Filled {
        title,
        content: Content::Lines(flow(cells.collect(), width, rows)),
    }
}

/// Under load something is in doubt at nearly every poll; without load whatever stays there has lost its coordinator. So
/// it is told for how long it was never nothing.
fn in_doubt_of(model: &Model, shard: &Shard) -> Span<'static> {
    let id = shard.id;
    match (shard.leader, shard.in_doubt_since) {
        (None, _) => Span::raw(format!("s{id} {UNKNOWN}")),
        (Some(leader), Some(since)) if model.now.saturating_sub(since) >= LONG => {
            let lasts = age(model.now.saturating_sub(since));
            let text = format!("s{id} {} for {lasts}", count(leader.in_doubt));
            Span::styled(text, NOTABLE)
        }
        (Some(leader), _) => Span::raw(format!("s{id} {}", count(leader.in_doubt))),
    }
}

/// Cells one after the other, two blanks between them; what does not fit into the last line is told by its number.
fn flow(cells: Vec<Span<'static>>, width: usize, rows: usize) -> Vec<Line<'static>> {
    const MORE: usize = 10;
    let mut lines = vec![Line::default()];
    let total = cells.len();
    for (index, cell) in cells.into_iter().enumerate() {
        let is_last_row = lines.len() >= rows;
        let reserved = match is_last_row && index + 1 < total {
            true => MORE,
            false => 0,
        };
        let is_first = lines.last().is_none_or(|line| line.spans.is_empty());
        let used = lines.last().map_or(0, Line::width);
        if !is_first && used + 2 + cell.width() + reserved > width {
            if is_last_row {
                if let Some(line) = lines.last_mut() {
                    line.push_span(Span::styled(format!("  +{} more", total - index), DIM));
                }
                break;
            }
            lines.push(Line::default());
        } else if !is_first && let Some(line) = lines.last_mut() {
            line.push_span("  ");
        }
        if let Some(line) = lines.last_mut() {
            line.push_span(cell);
        }
    }
    lines
}

fn shards(model: &Model, choice: Choice, rows: usize) -> Filled {
    // With the replicas: the shard of the first that is shown is shown too.
    let followed = model.replicas.get(choice.scroll);
    let first = followed.map_or(0, |replica| {
        let shard = replica.address.shard;
        let position = model.shards.iter().position(|it| it.id == shard);
        position.unwrap_or(0)
    });
    let first = first.min(model.shards.len().saturating_sub(rows));
    let shown = model.shards.iter().skip(first).take(rows);
    Filled {
        title: table_title("shards", first, rows, model.shards.len()),
        content: Content::Table(
            SHARD_COLUMNS,
            shown.map(|it| shard_row(model, it)).collect(),
        ),
    }
}

fn table_title(name: &str, first: usize, rows: usize, total: usize) -> Line<'static> {
    Line::from(match total <= rows {
        true => format!("{name} "),
        false => format!(
            "{name} {}-{} of {total} ",
            first + 1,
            total.min(first + rows)
        ),
    })
}

fn shard_row(model: &Model, shard: &Shard) -> Vec<Span<'static>> {
    let id = Span::raw(format!("s{}", shard.id));
    let changes = changed(shard.leader_changes);
    let terms = changed(shard.ballot_changes);
    let unknown = || Span::raw(UNKNOWN);
    let Some(leader) = shard.leader else {
        return vec![
            id,
            match model.polled {
                None => unknown(),
                Some(_) => Span::styled("none", BAD),
            },
            unknown(),
            changes,
            terms,
            unknown(),
            unknown(),
            unknown(),
            unknown(),
            unknown(),
            unknown(),
        ];
    };
    let of_rate = match leader.serving {
        true => Span::raw(known(shard.rate.map(|it| it.per_second), rate)),
        false => Span::styled("starts", NOTABLE),
    };
    let cross = shard.rate.and_then(|rate| {
        let all = rate.local + rate.cross;
        (rate.cross * 1_000).checked_div(all)
    });
    vec![
        id,
        Span::raw(format!("r{} n{}", leader.replica, leader.node)),
        Span::raw(leader.ballot.to_string()),
        changes,
        terms,
        of_rate,
        Span::raw(known(leader.p99_us, latency)),
        Span::raw(known(cross, share)),
        Span::raw(count(leader.in_doubt)),
        Span::raw(count(leader.accounts)),
        Span::raw(count(leader.transfers)),
    ]
}

fn changed(times: u32) -> Span<'static> {
    let style = match times {
        0 => Style::new(),
        1.. => NOTABLE,
    };
    Span::styled(times.to_string(), style)
}

fn replicas(model: &Model, choice: Choice, rows: usize) -> Filled {
    let total = model.replicas.len();
    let first = choice.scroll.min(total.saturating_sub(rows));
    let shown = model.replicas.iter().skip(first).take(rows);
    Filled {
        title: table_title("replicas", first, rows, total),
        content: Content::Table(
            REPLICA_COLUMNS,
            shown.map(|it| replica_row(model, it)).collect(),
        ),
    }
}

fn replica_row(model: &Model, replica: &Replica) -> Vec<Span<'static>> {
    let address = Span::raw(replica.address.to_string());
    let node = Span::raw(format!("n{}", replica.node));
    let Some(status) = &replica.status else {
        let role = match (model.polled, replica.answered) {
            (None, _) => Span::raw(UNKNOWN),
            (Some(_), None) => Span::styled("no answer", BAD),
            (Some(_), Some(last)) => {
                let silent = age(model.now.saturating_sub(last));
                Span::styled(format!("silent {silent}"), BAD)
            }
        };
        let mut cells = vec![address, node, role];
        cells.extend([UNKNOWN; 5].map(Span::raw));
        cells.push(Span::styled(replica.silence.clone(), BAD));
        return cells;
    };
    let style = match status.role {
        Role::Leader if status.serving => GOOD,
        Role::Follower => Style::new(),
        Role::Leader | Role::Candidate | Role::Recovering => NOTABLE,
        Role::Stopped => BAD,
    };
    let (apply, behind) = model.lag(replica);
    vec![
        address,
        node,
        Span::styled(status.role.name(), style),
        Span::raw(status.ballot.to_string()),
        Span::raw(status.chosen_upto.to_string()),
        Span::raw(status.applied_upto.to_string()),
        Span::raw(known(apply, count)),
        Span::raw(known(behind, count)),
        Span::raw(status.reason.clone()),
    ]
}

fn moves(model: &Model, rows: usize) -> Filled {
    let lines = match &model.plan {
        Plan::Unknown(reason) => vec![Line::from(format!("{UNKNOWN}: {reason}"))],
        Plan::None => vec![Line::from("no plan so far")],
        Plan::Known(record) => plan(record),
    };
    Filled {
        title: Line::from("moves "),
        content: Content::Lines(lines.into_iter().take(rows).collect()),
    }
}

/// The most important things first: there may be one line.
fn plan(record: &Record) -> Vec<Line<'static>> {
    let progress = &record.progress;
    let settled = progress.settled();
    let style = match (record.status, &record.reason) {
        (PlanStatus::Paused | PlanStatus::Aborted, _) | (_, Some(_)) => BAD,
        (PlanStatus::Preparing | PlanStatus::Running, None) => NOTABLE,
        (PlanStatus::Done, None) => GOOD,
    };
    let part = (settled * 100).checked_div(record.moves);
    let part = part.map_or_else(String::new, |part| format!(", {part}%"));
    let mut lines = vec![Line::from(vec![
        format!("plan {} ", record.number).into(),
        Span::styled(record.status.name(), style),
        format!(" {settled}/{}{part}", record.moves).into(),
    ])];
    if let Some(reason) = &record.reason {
        lines.push(Line::styled(reason.clone(), BAD));
    }
    lines.push(Line::from(format!(
        "{} refused, {} given up, {} retries",
        progress.refused, progress.given_up, progress.retries
    )));
    if let Some((p50, p99, max)) = progress.freeze.quantiles_us() {
        let [p50, p99, max] = [p50, p99, max].map(latency);
        lines.push(Line::from(format!("frozen p50 {p50} p99 {p99} max {max}")));
    }
    if let Some(driver) = record.driver {
        lines.push(Line::from(format!("pause {}ms", driver.pause_ms)));
    }
    if let Some(undone) = record.undoes {
        lines.push(Line::from(format!("undoes plan {undone}")));
    }
    lines
}

fn cores(model: &Model, width: usize, rows: usize) -> Filled {
    let remote: Vec<&Node> = model.nodes.iter().filter(|it| !it.is_local).collect();
    let mut cells: Vec<Span<'static>> = Vec::new();
    let mut lines = Vec::new();
    let remote_text = match &remote[..] {
        [] => None,
        [one] => Some(format!("n{} elsewhere: {UNKNOWN}", one.id)),
        [first, .., last] => Some(format!("n{}..n{} elsewhere: {UNKNOWN}", first.id, last.id)),
    };
    let wanted = model.cores.len() + usize::from(remote_text.is_some());
    if wanted <= rows {
        lines.extend(model.cores.iter().map(|core| core_line(core, width)));
        lines.extend(remote_text.map(Line::from));
    } else {
        cells.extend(model.cores.iter().map(core_cell));
        cells.extend(remote_text.map(Span::raw));
        lines = flow(cells, width, rows);
    }
    Filled {
        title: Line::from("cores with replicas here "),
        content: Content::Lines(lines),
    }
}

fn core_cell(core: &Core) -> Span<'static> {
    let busy = known(core.busy, |busy| format!("{}%", busy / 10));
    Span::styled(format!("cpu{} {busy}", core.core), load_style(core.busy))
}

/// With a bar as long as there is room, and the replicas that the core carries.
fn core_line(core: &Core, width: usize) -> Line<'static> {
    const BAR: usize = 10;
    let busy = known(core.busy, |busy| format!("{}%", busy / 10));
    let full = usize::try_from(core.busy.unwrap_or(0)).unwrap_or(0) * BAR / 1_000;
    let full = full.min(BAR);
    let bar = format!("[{}{}]", "|".repeat(full), " ".repeat(BAR - full));
    let replicas: Vec<String> = core.replicas.iter().map(ToString::to_string).collect();
    let replicas: String = replicas.join(" ").chars().take(width).collect();
    Line::from(vec![
        format!("cpu{:<3} ", core.core).into(),
        Span::styled(format!("{bar} {busy:>4}"), load_style(core.busy)),
        format!(" {replicas}").into(),
    ])
}

fn load_style(busy: Option<u64>) -> Style {
    match busy {
        Some(900..) => BAD,
        Some(700..900) => NOTABLE,
        Some(0..700) | None => Style::new(),
    }
}

fn events(model: &Model, rows: usize) -> Filled {
    let lines = model.events.iter().take(rows).map(|event| {
        let style = match event.grade {
            Grade::Good => GOOD,
            Grade::Notable => NOTABLE,
            Grade::Bad => BAD,
        };
        let ago = age(model.now.saturating_sub(event.at));
        Line::from(vec![
            Span::styled(format!("{ago:>4} ago  "), DIM),
            Span::styled(event.text.clone(), style),
        ])
    });
    let mut lines: Vec<Line<'static>> = lines.collect();
    if lines.is_empty() {
        lines.push(Line::styled("none since this began", DIM));
    }
    Filled {
        title: Line::from("events, newest first "),
        content: Content::Lines(lines),
    }
}
