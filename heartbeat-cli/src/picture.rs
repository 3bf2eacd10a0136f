//! Draws a connection in a terminal.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use std::{mem, panic};

use heartbeat_tokio::core::Rtt;
use heartbeat_tokio::{ClientStats, Config, Event, Phase, Ping, Seconds};
use ratatui::DefaultTerminal;
use ratatui::Frame;
use ratatui::crossterm::event::{
    self, Event as Key, KeyCode, KeyEvent, KeyEventKind, KeyModifiers,
};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Paragraph, Sparkline, Wrap};

use crate::misbehaving::ServerNote;
use crate::sums::Sums;
use crate::words::{Stamp, times};

/// The number of lines and round trips to keep. A terminal shows fewer.
const KEPT: usize = 500;

/// The maximum length of a line, in characters. Longer lines are cut.
const WIDEST: usize = 500;

/// The minimum time between two pictures.
const FRAME: Duration = Duration::from_millis(50);

/// A picture is on the terminal.
static DRAWS: AtomicBool = AtomicBool::new(false);
/// Text for standard error, to be written when the picture ends.
static AFTERWARDS: Mutex<String> = Mutex::new(String::new());

/// A picture on the terminal. Dropping it restores the terminal, and so does a panic.
pub(crate) struct Picture {
    terminal: DefaultTerminal,
    scene: Scene,
    /// When the picture was last drawn.
    drawn: Option<Duration>,
}

/// The contents of the picture.
struct Scene {
    url: String,
    times: String,
    /// The silence after which the connection counts as dead.
    bound: Duration,
    /// The silence after which the client pings.
    asks_after: Option<Duration>,
    lines: VecDeque<(Style, String)>,
    /// Round trips in microseconds, the latest first.
    round_trips: VecDeque<u64>,
    /// When bytes were last received, and how many had been received by then.
    heard: (Duration, u64),
    /// When the connection was opened.
    opened: Option<Duration>,
    /// When the next dial is planned.
    dials_at: Option<Duration>,
}

impl Picture {
    /// Takes over the terminal.
    pub(crate) fn start(url: &str, config: &Config) -> io::Result<Self> {
        let terminal = ratatui::try_init()?;
        DRAWS.store(true, Ordering::Relaxed);
        // The hook restores the terminal on a panic in any thread.
        let hook = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            restore();
            hook(info);
        }));
        Ok(Self {
            terminal,
            scene: Scene::new(url, config),
            drawn: None,
        })
    }

    /// Adds an event. `at` is the time since the start.
    pub(crate) fn event(&mut self, at: Duration, event: &Event, words: &str) {
        self.scene.event(at, event, words);
    }

    /// Adds a note of the demo's server.
    pub(crate) fn server(&mut self, at: Duration, note: &ServerNote) {
        let line = format!("{} {note}", Stamp(at));
        self.scene.line(Style::new().fg(Color::Cyan), line);
    }

    /// Returns true if it is time to draw again. Drawing each event of a busy feed would be wasted.
    pub(crate) fn is_due(&self, at: Duration) -> bool {
        self.drawn
            .is_none_or(|drawn| at.saturating_sub(drawn) >= FRAME)
    }

    /// Draws. Returns true if a key asks to stop.
    pub(crate) fn draw(
        &mut self,
        at: Duration,
        stats: &ClientStats,
        sums: &Sums,
    ) -> io::Result<bool> {
        // A panic in another thread has restored the terminal.
        if !DRAWS.load(Ordering::Relaxed) {
            return Ok(false);
        }
        self.drawn = Some(at);
        self.scene.hears(at, stats.bytes_received);
        let scene = &self.scene;
        self.terminal
            .draw(|frame| scene.render(frame, at, stats.phase, &stats.machine.rtt, sums))?;
        wants_an_end()
    }
}

impl Scene {
    fn new(url: &str, config: &Config) -> Self {
        Self {
            url: url.to_owned(),
            times: times(config),
            bound: config.idle_timeout(),
            asks_after: match config.ping() {
                Ping::AfterSilence(silence) => Some(silence),
                _ => None,
            },
            lines: VecDeque::new(),
            round_trips: VecDeque::new(),
            heard: (Duration::ZERO, 0),
            opened: None,
            dials_at: None,
        }
    }

    fn event(&mut self, at: Duration, event: &Event, words: &str) {
        let style = match event {
            Event::Connected { .. } => {
                (self.opened, self.dials_at, self.heard.0) = (Some(at), None, at);
                Style::new().fg(Color::Green)
            }
            Event::Disconnected { .. } => {
                self.opened = None;
                Style::new().fg(Color::Red).add_modifier(Modifier::BOLD)
            }
            Event::Reconnect { delay, .. } => {
                self.dials_at = Some(at + *delay);
                Style::new().fg(Color::Yellow)
            }
            Event::PongReceived { rtt, .. } => {
                if let Some(rtt) = rtt {
                    self.round_trips
                        .push_front(u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX));
                    self.round_trips.truncate(KEPT);
                }
                Style::new().fg(Color::Magenta)
            }
            Event::PingSent { .. } | Event::Check { .. } => Style::new().fg(Color::Magenta),
            Event::GaveUp { .. } => Style::new().fg(Color::Red).add_modifier(Modifier::BOLD),
            Event::Gap { .. } => Style::new().fg(Color::Yellow),
            _ => Style::new(),
        };
        self.line(style, format!("{} {words}", Stamp(at)));
    }

    fn hears(&mut self, at: Duration, bytes: u64) {
        if self.heard.1 != bytes {
            self.heard = (at, bytes);
        }
    }

    fn line(&mut self, style: Style, line: String) {
        let line = match line.char_indices().nth(WIDEST) {
            Some((end, _)) => format!("{}…", &line[..end]),
            None => line,
        };
        self.lines.push_front((style, line));
        self.lines.truncate(KEPT);
    }

    /// Renders the picture. In a small terminal the chart is left out first, then the sums, then the events.
    fn render(&self, frame: &mut Frame<'_>, at: Duration, phase: Phase, rtt: &Rtt, sums: &Sums) {
        let area = frame.area();
        let (head_rows, chart_rows, foot_rows) = match area.height {
            16.. => (3, 5, 3),
            10.. => (2, 0, 2),
            _ => (2, 0, 0),
        };
        let [head, silence, chart, log, foot] = Layout::vertical([
            Constraint::Length(head_rows),
            Constraint::Length(3),
            Constraint::Length(chart_rows),
            Constraint::Min(0),
            Constraint::Length(foot_rows),
        ])
        .areas(area);
        let (state, style) = self.state(at, phase);
        let title = Line::from(vec![
            Span::styled(
                format!(" {state} "),
                style.add_modifier(Modifier::REVERSED | Modifier::BOLD),
            ),
            Span::raw(format!("  {}", self.url)),
        ]);
        let mut head_lines = vec![title];
        head_lines.extend(self.times.split("; ").map(Line::raw));
        frame.render_widget(Paragraph::new(head_lines), head);
        let silent = self.opened.map(|_| at.saturating_sub(self.heard.0));
        let gauge = gauge(silent, self.bound, self.asks_after, silence.width);
        frame.render_widget(gauge, silence);
        frame.render_widget(self.chart(rtt, usize::from(chart.width)), chart);
        tell(frame, log, &self.lines);
        let foot_lines = vec![
            Line::raw(sums.to_string()),
            Line::styled(
                "q or Ctrl-C ends it",
                Style::new().add_modifier(Modifier::DIM),
            ),
        ];
        let sums_and_keys = Paragraph::new(foot_lines).wrap(Wrap { trim: true });
        frame.render_widget(sums_and_keys, foot);
    }

    /// Returns the chart of the latest round trips, as many as fit, the latest on the right.
    fn chart(&self, rtt: &Rtt, width: usize) -> Sparkline<'static> {
        let title = match rtt.samples {
            0 => " round trips: none yet (it has not had to ask) ".to_owned(),
            _ => format!(
                " round trips: last {}, shortest {}, longest {} ",
                Seconds(rtt.last),
                Seconds(rtt.min),
                Seconds(rtt.max)
            ),
        };
        let room = width.saturating_sub(2);
        let mut data: Vec<u64> = self.round_trips.iter().copied().take(room).collect();
        data.reverse();
        Sparkline::default()
            .data(data)
            .style(Style::new().fg(Color::Magenta))
            .block(Block::bordered().title(title))
    }

    fn state(&self, at: Duration, phase: Phase) -> (String, Style) {
        let (words, colour) = match (phase, self.opened, self.dials_at) {
            (Phase::Open, Some(since), _) => (
                format!("open for {}", Seconds(tenths(at.saturating_sub(since)))),
                Color::Green,
            ),
            (Phase::Waiting, _, Some(until)) => (
                format!("dials in {}", Seconds(tenths(until.saturating_sub(at)))),
                Color::Yellow,
            ),
            (phase, ..) => (phase.as_str().to_owned(), Color::Yellow),
        };
        (words, Style::new().fg(colour))
    }
}

impl Drop for Picture {
    fn drop(&mut self) {
        restore();
    }
}

/// Restores the terminal if it was taken over, and writes the text that was kept for standard error.
pub(crate) fn restore() {
    if DRAWS.swap(false, Ordering::Relaxed) {
        ratatui::restore();
        let said = mem::take(&mut *AFTERWARDS.lock().unwrap_or_else(PoisonError::into_inner));
        // An error means that standard error is closed, so there is nobody to tell.
        let _ = io::stderr().write_all(said.as_bytes());
    }
}

/// Keeps a text for standard error until the picture ends. Returns the text if there is no picture.
pub(crate) fn after(text: String) -> Option<String> {
    if !DRAWS.load(Ordering::Relaxed) {
        return Some(text);
    }
    let mut said = AFTERWARDS.lock().unwrap_or_else(PoisonError::into_inner);
    said.push_str(&text);
    None
}

/// Returns a bar for the current silence, relative to `bound`, in this many columns.
fn gauge(
    silent: Option<Duration>,
    bound: Duration,
    asks: Option<Duration>,
    columns: u16,
) -> Paragraph<'static> {
    let Some(silent) = silent else {
        return Paragraph::default().block(Block::bordered().title(" silence: no connection "));
    };
    let ratio = (silent.as_secs_f64() / bound.as_secs_f64()).clamp(0.0, 1.0);
    let colour = match asks {
        _ if ratio > 0.8 => Color::Red,
        Some(asks) if silent >= asks => Color::Yellow,
        _ => Color::Green,
    };
    let asks = asks
        .map(|asks| format!(", asks after {}", Seconds(asks)))
        .unwrap_or_default();
    let title = format!(
        " silence: {:.1} s, dead after {}{asks} ",
        silent.as_secs_f64(),
        Seconds(bound)
    );
    let filled = (f64::from(columns.saturating_sub(2)) * ratio).round() as usize;
    Paragraph::new(Line::styled("█".repeat(filled), Style::new().fg(colour)))
        .block(Block::bordered().title(title))
}

/// Renders the last lines, the latest at the bottom.
fn tell(frame: &mut Frame<'_>, area: ratatui::layout::Rect, lines: &VecDeque<(Style, String)>) {
    let room = usize::from(area.height.saturating_sub(2));
    let shown: Vec<Line<'_>> = lines
        .iter()
        .take(room)
        .rev()
        .map(|(style, line)| Line::styled(line.as_str(), *style))
        .collect();
    frame.render_widget(
        Paragraph::new(shown).block(Block::bordered().title(" events ")),
        area,
    );
}

/// Reads the pressed keys, and returns true if one asks to stop. While a picture is drawn, Ctrl-C arrives as a key.
fn wants_an_end() -> io::Result<bool> {
    let mut wants = false;
    while event::poll(Duration::ZERO)? {
        if let Key::Key(KeyEvent {
            code,
            modifiers,
            kind: KeyEventKind::Press,
            ..
        }) = event::read()?
        {
            wants |= match code {
                KeyCode::Char('q') | KeyCode::Esc => true,
                KeyCode::Char('c') => modifiers.contains(KeyModifiers::CONTROL),
                _ => false,
            };
        }
    }
    Ok(wants)
}

/// Truncates to tenths of a second, the precision that a picture shows.
fn tenths(duration: Duration) -> Duration {
    Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX) / 100 * 100)
}

#[cfg(test)]
mod tests {
    use super::*;
    use heartbeat_tokio::ConnId;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    /// Returns the text of a screen of this size at 2.5 s, which is 1.5 s after the last byte.
    fn screen(columns: u16, rows: u16) -> String {
        let mut scene = Scene::new("ws://127.0.0.1:9/", &Config::brisk());
        let conn = ConnId::new(1);
        let mut sums = Sums::default();
        let second = Duration::from_secs(1);
        let connected: Event = Event::PongReceived {
            conn,
            rtt: Some(Duration::from_millis(20)),
        };
        sums.count(&connected);
        scene.event(second, &connected, "pong after 20 ms");
        scene.opened = Some(second / 2);
        scene.hears(second, 17);
        let rtt = Rtt::default();
        let mut terminal = Terminal::new(TestBackend::new(columns, rows)).expect("no terminal");
        let at = second * 5 / 2;
        terminal
            .draw(|frame| scene.render(frame, at, Phase::Open, &rtt, &sums))
            .expect("drawn");
        terminal.backend().to_string()
    }

    #[test]
    fn a_screen_shows_state_silence_round_trips_events_and_sums() {
        let screen = screen(100, 30);
        for part in [
            " open for 2 s ",
            "ws://127.0.0.1:9/",
            "1.5 s, dead after ",
            "round trips",
            "1.000 pong after 20 ms",
            "0 connections, ",
            "q or Ctrl-C ends it",
        ] {
            assert!(screen.contains(part), "no {part:?}\n{screen}");
        }
    }

    #[test]
    fn any_size_can_be_drawn_on_and_a_small_one_shows_the_state() {
        for columns in [1, 2, 3, 20, 80] {
            for rows in 0..20 {
                let _ = screen(columns, rows);
            }
        }
        assert!(screen(20, 5).contains("open for 2 s"), "{}", screen(20, 5));
        assert!(screen(60, 10).contains("pong after"), "{}", screen(60, 10));
    }
}
