//! The dialects that ship with this crate, in one data file per service or family.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use crate::dialect::description::Description;
use crate::duration_text::parse_duration;

/// A service's dialect, and the sources of its facts.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct CatalogueEntry {
    /// The name, in lower case. It never changes.
    pub name: String,
    /// Further names, also of services that speak the same dialect.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// The service's own name.
    pub service: String,
    /// The sources of the facts: pages of the vendor or files of a client, each by its URL.
    #[serde(default)]
    pub source: Vec<String>,
    /// The day on which the facts were last checked against the sources, as `2026-11-29`.
    #[serde(default)]
    pub checked: String,
    /// The quality of the sources (`official-doc`, `vendor-sdk`, `third-party-code`, …).
    pub evidence: String,
    /// The interval at which the service sends or wants heartbeats.
    #[serde(default, deserialize_with = "duration")]
    pub interval: Option<Duration>,
    /// The basis of `interval`: documented, suggested, or the habit of some client.
    #[serde(default)]
    pub interval_basis: Option<String>,
    /// The time of silence, or the time after an unanswered ping, after which the service closes.
    #[serde(default, deserialize_with = "duration")]
    pub server_timeout: Option<Duration>,
    /// True if any message of the client keeps the connection alive, false if only heartbeats do; `None`: unknown.
    #[serde(default)]
    pub any_message_counts: Option<bool>,
    /// True if the service never answers a client's ping, or the form of its answers is unknown. Any answers then
    /// go to the application.
    #[serde(default)]
    pub unanswered: bool,
    /// The compression of incoming messages, if there is one. An application inflates a message before a dialect
    /// sees it.
    #[serde(default)]
    pub compression: Option<String>,
    /// Further remarks.
    #[serde(default)]
    pub notes: Vec<String>,
    /// The dialect.
    pub dialect: Description,
}

/// Iterates over all dialects that ship with this crate. Each data file is read when its entry is reached.
///
/// ```
/// # mod heartbeat_tokio { pub use heartbeat_core as core; }
/// let entry = heartbeat_tokio::core::catalogue().find(|entry| entry.name == "okx").unwrap();
/// assert_eq!(entry.server_timeout.unwrap().as_secs(), 30);
/// assert!(heartbeat_tokio::core::catalogue().count() > 150);
/// ```
pub fn catalogue() -> impl Iterator<Item = CatalogueEntry> {
    FILES.iter().flat_map(|text| {
        // A test reads every file, so a failure here is a bug in this crate.
        let entries: Vec<CatalogueEntry> =
            serde_json::from_str(text).expect("a data file of this crate");
        entries
    })
}

impl CatalogueEntry {
    /// Returns the entry with this name or alias.
    ///
    /// ```
    /// # mod heartbeat_tokio { pub use heartbeat_core as core; }
    /// use heartbeat_tokio::core::CatalogueEntry; // or heartbeat_core
    /// assert_eq!(CatalogueEntry::named("huobi").unwrap().name, "htx");
    /// assert!(CatalogueEntry::named("no such service").is_none());
    /// ```
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let quoted = alloc::format!("\"{name}\"");
        FILES
            .iter()
            .filter(|text| text.contains(&quoted))
            .flat_map(|text| serde_json::from_str::<Vec<Self>>(text).unwrap_or_default())
            .find(|entry| entry.name == name || entry.aliases.iter().any(|alias| alias == name))
    }
}

impl CatalogueEntry {
    /// Returns similar names and aliases, the nearest first, at most five. A similar name differs in at most two
    /// letters, or one of the names contains the other.
    ///
    /// ```
    /// # mod heartbeat_tokio { pub use heartbeat_core as core; }
    /// use heartbeat_tokio::core::CatalogueEntry; // or heartbeat_core
    /// assert_eq!(CatalogueEntry::names_near("kukoin")[0], "kucoin");
    /// assert!(CatalogueEntry::names_near("Binance").contains(&"binance-api".into()));
    /// assert!(CatalogueEntry::names_near("no such service").is_empty());
    /// ```
    #[must_use]
    pub fn names_near(name: &str) -> Vec<String> {
        // Bound the cost of the comparison. A longer text is no name.
        let wanted: String = name.chars().take(64).collect::<String>().to_lowercase();
        let names = catalogue().flat_map(|entry| {
            let aliases = entry.aliases.into_iter();
            [entry.name].into_iter().chain(aliases)
        });
        let mut near: Vec<(usize, String)> = names
            .filter_map(|known| {
                let distance = distance(&wanted, &known);
                let short = wanted.len().min(known.len());
                let contains = short > 2 && (known.contains(&wanted) || wanted.contains(&known));
                (contains || (distance <= 2 && distance < short)).then_some((distance, known))
            })
            .collect();
        near.sort();
        near.truncate(5);
        near.into_iter().map(|(_, name)| name).collect()
    }
}

/// Returns the number of letters to insert, delete or replace to turn one word into the other (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.chars().count()).collect();
    for (line, letter) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        for (column, known) in other.chars().enumerate() {
            let changed = diagonal + usize::from(letter != known);
            diagonal = row[column + 1];
            row[column + 1] = changed.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row.last().copied().unwrap_or_default()
}

impl Description {
    /// Returns the catalogue's dialect with this name or alias.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        CatalogueEntry::named(name).map(|entry| entry.dialect)
    }
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let duration = parse_duration(&text);
    duration
        .map(Some)
        .map_err(|error| D::Error::custom(error.to_string()))
}

const FILES: &[&str] = &[
    include_str!("../../../dialects/0xarchive.json"),
    include_str!("../../../dialects/ably.json"),
    include_str!("../../../dialects/actioncable.json"),
    include_str!("../../../dialects/aliceblue.json"),
    include_str!("../../../dialects/alltick.json"),
    include_str!("../../../dialects/alpaca.json"),
    include_str!("../../../dialects/alphapoint.json"),
    include_str!("../../../dialects/angel-one.json"),
    include_str!("../../../dialects/apex.json"),
    include_str!("../../../dialects/appwrite.json"),
    include_str!("../../../dialects/arrow-trade.json"),
    include_str!("../../../dialects/ascendex.json"),
    include_str!("../../../dialects/assemblyai.json"),
    include_str!("../../../dialects/aster.json"),
    include_str!("../../../dialects/aws-api-gateway.json"),
    include_str!("../../../dialects/azbit.json"),
    include_str!("../../../dialects/backpack.json"),
    include_str!("../../../dialects/bilibili.json"),
    include_str!("../../../dialects/binance.json"),
    include_str!("../../../dialects/bingx.json"),
    include_str!("../../../dialects/bitfinex.json"),
    include_str!("../../../dialects/bitget.json"),
    include_str!("../../../dialects/bithumb.json"),
    include_str!("../../../dialects/bitmart.json"),
    include_str!("../../../dialects/bitmex.json"),
    include_str!("../../../dialects/bitstamp.json"),
    include_str!("../../../dialects/bitunix.json"),
    include_str!("../../../dialects/blockchain-com.json"),
    include_str!("../../../dialects/blofin.json"),
    include_str!("../../../dialects/bloxroute.json"),
    include_str!("../../../dialects/btc-markets.json"),
    include_str!("../../../dialects/bullish.json"),
    include_str!("../../../dialects/bybit.json"),
    include_str!("../../../dialects/bydfi.json"),
    include_str!("../../../dialects/capital-com.json"),
    include_str!("../../../dialects/centrifugo.json"),
    include_str!("../../../dialects/chainstream.json"),
    include_str!("../../../dialects/coinbase.json"),
    include_str!("../../../dialects/coinone.json"),
    include_str!("../../../dialects/convex.json"),
    include_str!("../../../dialects/crypto-com.json"),
    include_str!("../../../dialects/ctrader.json"),
    include_str!("../../../dialects/ddp.json"),
    include_str!("../../../dialects/deepcoin.json"),
    include_str!("../../../dialects/deepgram.json"),
    include_str!("../../../dialects/delta.json"),
    include_str!("../../../dialects/deribit.json"),
    include_str!("../../../dialects/deriv.json"),
    include_str!("../../../dialects/derive.json"),
    include_str!("../../../dialects/dhan.json"),
    include_str!("../../../dialects/dingtalk.json"),
    include_str!("../../../dialects/discord.json"),
    include_str!("../../../dialects/dxlink.json"),
    include_str!("../../../dialects/dydx.json"),
    include_str!("../../../dialects/electrum.json"),
    include_str!("../../../dialects/elevenlabs.json"),
    include_str!("../../../dialects/engine-io.json"),
    include_str!("../../../dialects/ewelink.json"),
    include_str!("../../../dialects/fhircast.json"),
    include_str!("../../../dialects/finnhub.json"),
    include_str!("../../../dialects/firebase.json"),
    include_str!("../../../dialects/fluxer.json"),
    include_str!("../../../dialects/fyers.json"),
    include_str!("../../../dialects/gains.json"),
    include_str!("../../../dialects/gate.json"),
    include_str!("../../../dialects/gemini.json"),
    include_str!("../../../dialects/gemini-live.json"),
    include_str!("../../../dialects/generic.json"),
    include_str!("../../../dialects/gotify.json"),
    include_str!("../../../dialects/graphql.json"),
    include_str!("../../../dialects/helius.json"),
    include_str!("../../../dialects/hocuspocus.json"),
    include_str!("../../../dialects/hollaex.json"),
    include_str!("../../../dialects/home-assistant.json"),
    include_str!("../../../dialects/hotstuff.json"),
    include_str!("../../../dialects/htx.json"),
    include_str!("../../../dialects/huawei-meeting.json"),
    include_str!("../../../dialects/hyperate.json"),
    include_str!("../../../dialects/hyperliquid.json"),
    include_str!("../../../dialects/ibkr.json"),
    include_str!("../../../dialects/independent-reserve.json"),
    include_str!("../../../dialects/infoway.json"),
    include_str!("../../../dialects/iobroker.json"),
    include_str!("../../../dialects/irc.json"),
    include_str!("../../../dialects/janus.json"),
    include_str!("../../../dialects/jellyfin.json"),
    include_str!("../../../dialects/kalshi.json"),
    include_str!("../../../dialects/kazoo.json"),
    include_str!("../../../dialects/kiwoom.json"),
    include_str!("../../../dialects/kook.json"),
    include_str!("../../../dialects/kraken.json"),
    include_str!("../../../dialects/kucoin.json"),
    include_str!("../../../dialects/lark.json"),
    include_str!("../../../dialects/lbank.json"),
    include_str!("../../../dialects/lighter.json"),
    include_str!("../../../dialects/lightstreamer.json"),
    include_str!("../../../dialects/liveblocks.json"),
    include_str!("../../../dialects/livekit.json"),
    include_str!("../../../dialects/ln-markets.json"),
    include_str!("../../../dialects/longbridge.json"),
    include_str!("../../../dialects/loxone.json"),
    include_str!("../../../dialects/lseg.json"),
    include_str!("../../../dialects/massive.json"),
    include_str!("../../../dialects/mattermost.json"),
    include_str!("../../../dialects/mexc.json"),
    include_str!("../../../dialects/mqtt.json"),
    include_str!("../../../dialects/mudrex.json"),
    include_str!("../../../dialects/nado.json"),
    include_str!("../../../dialects/nakama.json"),
    include_str!("../../../dialects/nats.json"),
    include_str!("../../../dialects/nomad.json"),
    include_str!("../../../dialects/noren.json"),
    include_str!("../../../dialects/novig.json"),
    include_str!("../../../dialects/ntfy.json"),
    include_str!("../../../dialects/obs-websocket.json"),
    include_str!("../../../dialects/ocpp.json"),
    include_str!("../../../dialects/ogs.json"),
    include_str!("../../../dialects/okx.json"),
    include_str!("../../../dialects/onebot.json"),
    include_str!("../../../dialects/onetrading.json"),
    include_str!("../../../dialects/openai-realtime.json"),
    include_str!("../../../dialects/openhab.json"),
    include_str!("../../../dialects/pacifica.json"),
    include_str!("../../../dialects/pandascore.json"),
    include_str!("../../../dialects/paradex.json"),
    include_str!("../../../dialects/phemex.json"),
    include_str!("../../../dialects/phoenix.json"),
    include_str!("../../../dialects/poloniex.json"),
    include_str!("../../../dialects/polymarket.json"),
    include_str!("../../../dialects/predict-fun.json"),
    include_str!("../../../dialects/proxmox.json"),
    include_str!("../../../dialects/pusher.json"),
    include_str!("../../../dialects/qq-bot.json"),
    include_str!("../../../dialects/rails-xyz.json"),
    include_str!("../../../dialects/revolt.json"),
    include_str!("../../../dialects/ripio.json"),
    include_str!("../../../dialects/s2-connect.json"),
    include_str!("../../../dialects/satori.json"),
    include_str!("../../../dialects/schwab.json"),
    include_str!("../../../dialects/sharedb.json"),
    include_str!("../../../dialects/signalr.json"),
    include_str!("../../../dialects/signalwire.json"),
    include_str!("../../../dialects/slack.json"),
    include_str!("../../../dialects/socketcluster.json"),
    include_str!("../../../dialects/sockjs.json"),
    include_str!("../../../dialects/solana.json"),
    include_str!("../../../dialects/soniox.json"),
    include_str!("../../../dialects/speechmatics.json"),
    include_str!("../../../dialects/sportradar-golf.json"),
    include_str!("../../../dialects/stomp.json"),
    include_str!("../../../dialects/surrealdb.json"),
    include_str!("../../../dialects/synquote.json"),
    include_str!("../../../dialects/tapbit.json"),
    include_str!("../../../dialects/tastytrade.json"),
    include_str!("../../../dialects/telnyx.json"),
    include_str!("../../../dialects/tencent-iot.json"),
    include_str!("../../../dialects/tiingo.json"),
    include_str!("../../../dialects/toobit.json"),
    include_str!("../../../dialects/tradier.json"),
    include_str!("../../../dialects/tradingview.json"),
    include_str!("../../../dialects/tradovate.json"),
    include_str!("../../../dialects/trpc.json"),
    include_str!("../../../dialects/truenas.json"),
    include_str!("../../../dialects/tushare.json"),
    include_str!("../../../dialects/twelve-data.json"),
    include_str!("../../../dialects/twitch.json"),
    include_str!("../../../dialects/upbit.json"),
    include_str!("../../../dialects/valr.json"),
    include_str!("../../../dialects/webex.json"),
    include_str!("../../../dialects/wecom.json"),
    include_str!("../../../dialects/weex.json"),
    include_str!("../../../dialects/whitebit.json"),
    include_str!("../../../dialects/wire.json"),
    include_str!("../../../dialects/woo.json"),
    include_str!("../../../dialects/xrpl.json"),
    include_str!("../../../dialects/xt.json"),
    include_str!("../../../dialects/y-websocket.json"),
    include_str!("../../../dialects/zero.json"),
    include_str!("../../../dialects/zero-hash.json"),
    include_str!("../../../dialects/zerodha.json"),
];
