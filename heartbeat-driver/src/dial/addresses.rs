//! The order in which a host's addresses are tried: those that failed come last.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use heartbeat_core::ConnId;

/// The most addresses of one host that a dial tries, and the most failed addresses that are remembered.
const MAX_ADDRESSES: usize = 32;

/// Shared knowledge of an engine and its dials about addresses. Cheap to clone.
///
/// An address has failed if TCP connected to it and the dial failed later, or the connection ended before it
/// was stable. The addresses themselves are remembered, because a resolver may return them in another order the
/// next time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Addresses(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// In order of failure. The latest is last.
    failed: Vec<SocketAddr>,
    /// The current dial.
    conn: Option<ConnId>,
    all: Vec<SocketAddr>,
    used: Option<SocketAddr>,
}

impl Addresses {
    /// Returns the order in which this dial tries these addresses: first those that have not failed, then the
    /// others, the latest failure last.
    pub(crate) fn order(
        &self,
        conn: ConnId,
        addresses: impl IntoIterator<Item = SocketAddr>,
    ) -> Vec<SocketAddr> {
        let mut state = self.lock();
        let addresses: Vec<_> = addresses.into_iter().collect();
        let is_new = |address: &SocketAddr| !state.failed.contains(address);
        let mut order = interleave(addresses.iter().copied().filter(is_new));
        let again = state.failed.iter().copied();
        order.extend(again.filter(|address| addresses.contains(address)));
        order.truncate(MAX_ADDRESSES);
        (state.conn, state.used) = (Some(conn), None);
        state.all.clone_from(&order);
        order
    }

    /// Notes that TCP has connected to this address.
    pub(crate) fn connected(&self, conn: ConnId, address: SocketAddr) {
        let mut state = self.lock();
        // An abandoned dial is ignored.
        if state.conn == Some(conn) {
            state.used = Some(address);
        }
    }

    /// Begins a dial whose addresses are not known yet.
    pub(crate) fn begin(&self) {
        let mut state = self.lock();
        (state.conn, state.used) = (None, None);
        state.all.clear();
    }

    /// Notes the end of the connection or dial.
    pub(crate) fn ended(&self, was_stable: bool) {
        let mut state = self.lock();
        let used = state.used.take();
        if was_stable {
            state.failed.clear();
        } else if let Some(address) = used {
            state.failed.retain(|failed| *failed != address);
            if state.failed.len() == MAX_ADDRESSES {
                state.failed.remove(0);
            }
            state.failed.push(address);
        }
    }

    /// Returns how many of the last dial's addresses are left to try. Addresses before the one in use do not
    /// count, because the same dial tried them without an answer. Returns 0 once the limit of failed addresses
    /// is reached, because a host whose addresses keep changing has had enough tries.
    pub(crate) fn untried(&self) -> usize {
        let state = self.lock();
        if state.failed.len() == MAX_ADDRESSES {
            return 0;
        }
        let is_untried = |address: &&SocketAddr| {
            !state.failed.contains(address) && state.used != Some(**address)
        };
        let is_before = |address: &&SocketAddr| state.used.is_some_and(|used| used != **address);
        let behind = state.all.iter().skip_while(is_before);
        behind.filter(is_untried).count()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code under this lock can panic half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Orders a host's addresses for a dial (RFC 8305 §4): in the resolver's order, but with alternating families,
/// because often one family as a whole does not work. At most 32.
#[must_use]
pub fn interleave(addresses: impl IntoIterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut addresses = addresses.into_iter().peekable();
    let first_is_v4 = addresses.peek().is_some_and(SocketAddr::is_ipv4);
    let (same, other): (Vec<_>, Vec<_>) =
        addresses.partition(|address| address.is_ipv4() == first_is_v4);
    let (mut same, mut other) = (same.into_iter(), other.into_iter());
    let mut order = Vec::new();
    loop {
        let pair = [same.next(), other.next()];
        if pair == [None, None] || order.len() >= MAX_ADDRESSES {
            order.truncate(MAX_ADDRESSES);
            return order;
        }
        order.extend(pair.into_iter().flatten());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn families_take_turns_and_their_own_order_stays() {
        let resolved = ["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "2.2.2.2:1"].map(address);
        let order = ["[::1]:1", "1.1.1.1:1", "[::2]:1", "2.2.2.2:1", "[::3]:1"].map(address);
        assert_eq!(interleave(resolved), order);
        assert_eq!(interleave([]), []);
        assert_eq!(interleave([order[1]; 99]).len(), MAX_ADDRESSES);
    }

    /// Makes the next dial with these resolver results. It connects to the first address and fails.
    fn fail(addresses: &Addresses, conn: u64, resolved: &[SocketAddr]) -> Vec<SocketAddr> {
        let conn = ConnId::new(conn);
        addresses.begin();
        let order = addresses.order(conn, resolved.iter().copied());
        addresses.connected(conn, order[0]);
        addresses.ended(false);
        order
    }

    #[test]
    fn a_dial_begins_behind_the_address_that_failed_whatever_order_the_resolver_says() {
        let [a, b, c] = ["1.1.1.1:1", "[::2]:1", "3.3.3.3:1"].map(address);
        let addresses = Addresses::default();
        assert_eq!(fail(&addresses, 1, &[a, b, c]), [a, b, c]);
        assert_eq!(addresses.untried(), 2);
        assert_eq!(fail(&addresses, 2, &[a, c, b]), [c, b, a]);
        assert_eq!(addresses.untried(), 1);
        assert_eq!(fail(&addresses, 3, &[c, a, b]), [b, a, c]);
        assert_eq!(addresses.untried(), 0);
        assert_eq!(fail(&addresses, 4, &[a, b, c]), [a, c, b], "round again");
        assert_eq!(fail(&addresses, 5, &[a, b]), [b, a], "one has gone");
        addresses.ended(true);
        assert_eq!(fail(&addresses, 6, &[a, b, c]), [a, b, c], "it was well");
    }

    #[test]
    fn a_dial_that_was_given_up_says_nothing_of_the_next_one() {
        let [a, b] = ["1.1.1.1:1", "2.2.2.2:1"].map(address);
        let addresses = Addresses::default();
        addresses.order(ConnId::new(1), [a, b]);
        addresses.begin();
        addresses.connected(ConnId::new(1), a);
        addresses.ended(false);
        assert_eq!(addresses.order(ConnId::new(2), [a, b]), [a, b]);
        assert_eq!(addresses.untried(), 2, "none was connected to");
        addresses.connected(ConnId::new(2), a);
        assert_eq!(addresses.untried(), 1, "while the first is in use");
    }

    #[test]
    fn what_is_remembered_is_bounded_and_a_host_of_endless_addresses_is_tried_only_so_often() {
        let addresses = Addresses::default();
        let at = |number: u8| SocketAddr::from(([10, 0, 0, number], 1));
        for number in 0..200_u8 {
            let order = fail(&addresses, u64::from(number), &[at(number), at(number + 1)]);
            assert_eq!(order.len(), 2);
            let tried = usize::from(number) + 1;
            assert_eq!(addresses.untried() == 0, tried >= MAX_ADDRESSES, "{tried}");
        }
        assert_eq!(addresses.lock().failed.len(), MAX_ADDRESSES);
    }
}
