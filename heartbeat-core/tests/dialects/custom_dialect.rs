//! What no description can say, written against the trait: two of the services that `DIALECTS.md` lists.

use std::time::Duration;

use heartbeat_core::{
    Action, Buffer, Class, Config, ConnId, Dialect, Event, Heartbeat, Instant, Message, Outgoing,
    Ping, PingMessage, PingSpec, Reply, TemplateRef, Values, Variables,
};

const CONN: ConnId = ConnId::new(1);

/// Simperium counts: each ping is the last pong's number plus one.
/// <https://github.com/Simperium/simperium-protocol/blob/master/SYNCING.md>
struct Simperium;

fn pong_number(text: &str) -> Option<u64> {
    text.strip_prefix("h:")?.parse().ok()
}

impl Dialect for Simperium {
    fn classify_text<'a>(&self, text: &'a str) -> Class<'a> {
        match pong_number(text) {
            Some(_) => Class::Pong,
            None => Class::Data,
        }
    }

    fn classify_binary<'a>(&self, _: &'a [u8]) -> Class<'a> {
        Class::Data
    }

    fn ping(&self) -> PingSpec {
        let mut ask = PingSpec::default();
        (ask.message, ask.is_answered) = (Some(TemplateRef::of(0)), true);
        ask
    }

    fn tracks(&self) -> bool {
        true
    }

    fn track(&self, text: &str, variables: &mut Variables) {
        if let Some(number) = pong_number(text) {
            variables.insert("next".into(), number.saturating_add(1).to_string());
        }
    }

    fn render<'d>(
        &'d self,
        _: &TemplateRef<'_>,
        values: &Values<'_>,
        buffer: &'d mut Buffer,
    ) -> Option<Outgoing<'d>> {
        let next = values.variables.get("next").map_or("0", String::as_str);
        buffer.text = format!("h:{next}");
        Some(Outgoing::Text(&buffer.text))
    }
}

/// XMPP's ping (XEP-0199) is answered by its own attributes, two of them swapped. A real one would ask an
/// XML parser; this one knows what one server writes.
struct Xmpp;

fn attribute<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, after) = text.split_once(&format!(" {name}='"))?;
    Some(after.split_once('\'')?.0)
}

impl Dialect for Xmpp {
    fn classify_text<'a>(&self, text: &'a str) -> Class<'a> {
        if text.starts_with("<iq ") && text.contains("><ping xmlns='urn:xmpp:ping'/>") {
            Class::Ping(Reply::Template(TemplateRef::answering(7, text)))
        } else {
            Class::Data
        }
    }

    fn classify_binary<'a>(&self, _: &'a [u8]) -> Class<'a> {
        Class::Data
    }

    fn render<'d>(
        &'d self,
        draft: &TemplateRef<'_>,
        _: &Values<'_>,
        buffer: &'d mut Buffer,
    ) -> Option<Outgoing<'d>> {
        assert_eq!(draft.number(), 7);
        let of = |name| attribute(draft.message(), name);
        let (from, to, id) = (of("from")?, of("to")?, of("id")?);
        buffer.text = format!("<iq from='{to}' to='{from}' id='{id}' type='result'/>");
        Some(Outgoing::Text(&buffer.text))
    }
}

fn open<D: Dialect>(dialect: D) -> Heartbeat<Config, D> {
    let config = Config::builder().ping(Ping::Every(Duration::from_secs(20)));
    let mut machine = Heartbeat::new(config.build().unwrap(), dialect, 7, Instant::ORIGIN);
    let _ = machine.step(Instant::ORIGIN, Event::Tick);
    let _ = machine.step(Instant::ORIGIN, Event::Connected(CONN));
    machine
}

fn written(dialect: &dyn Dialect, draft: TemplateRef<'_>, variables: &Variables) -> String {
    let values = Values {
        unix_ms: 0,
        variables,
    };
    match dialect.render(&draft, &values, &mut Buffer::default()) {
        Some(Outgoing::Text(text)) => text.to_owned(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_dialect_that_counts_asks_with_the_number_after_the_last_answer() {
    let mut machine = open(Simperium);
    let mut variables = Variables::new();
    let mut asked = Vec::new();
    for pong in ["h:1", "h:8"] {
        let at = machine.wake().unwrap();
        let mut step = machine.step(at, Event::Tick);
        while step.actions.is_empty() || !matches!(step.actions[0], Action::SendPing { .. }) {
            step = machine.step(machine.wake().unwrap(), Event::Tick);
        }
        let Action::SendPing {
            ping: PingMessage::Template(draft),
            ..
        } = step.actions[0]
        else {
            panic!("{:?}", step.actions)
        };
        asked.push(written(machine.dialect(), draft, &variables));
        let at = machine.wake().unwrap().saturating_add(Duration::ZERO);
        machine.dialect().track(pong, &mut variables);
        let _ = machine.step(at, Event::Received(CONN, Message::Text(pong)));
    }
    asked.push(written(&Simperium, TemplateRef::of(0), &variables));
    assert_eq!(asked, ["h:0", "h:2", "h:9"]);
    assert_eq!(machine.stats().pongs_received, 2);
    assert_eq!(Simperium.classify_text("0:h:1"), Class::Data);
}

#[test]
fn a_dialect_of_xml_answers_with_attributes_swapped() {
    let mut machine = open(Xmpp);
    let ping =
        "<iq from='a.org' to='j@a.org/r' id='s2c1' type='get'><ping xmlns='urn:xmpp:ping'/></iq>";
    let step = machine.step(Instant::ORIGIN, Event::Received(CONN, Message::Text(ping)));
    let Action::SendPong {
        reply: Reply::Template(draft),
        ..
    } = step.actions[0]
    else {
        panic!("{:?}", step.actions)
    };
    assert_eq!(
        written(&Xmpp, draft, &Variables::new()),
        "<iq from='j@a.org/r' to='a.org' id='s2c1' type='result'/>"
    );
    let look_alike = "<message><body>&lt;ping xmlns='urn:xmpp:ping'/&gt;</body></message>";
    assert_eq!(Xmpp.classify_text(look_alike), Class::Data);
}

/// A dialect that says no more than it must.
struct Silent;

impl Dialect for Silent {
    fn classify_text<'a>(&self, _: &'a str) -> Class<'a> {
        Class::Data
    }

    fn classify_binary<'a>(&self, _: &'a [u8]) -> Class<'a> {
        Class::Data
    }
}

#[test]
fn a_dialect_that_says_no_more_joins_nothing_and_keeps_nothing() {
    assert_eq!(Silent.separator(), None);
    assert!(!Silent.tracks());
    assert_eq!(Silent.close_policy(4000), None);
    assert_eq!(Silent.ping(), PingSpec::default());
    assert_eq!(Silent.greeting(0), None);
}
