//! A client's record of its endpoints and credentials. The machine reports what happened to an endpoint, and asks
//! whether it is hopeless and whether fresh credentials are needed.

use super::event::Route;
use crate::cause::Cause;

/// The endpoints that were ever stable, and those that are hopeless.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "trace", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "trace", serde(deny_unknown_fields))]
pub(crate) struct Endpoints {
    /// The route of the latest dial.
    route: Route,
    /// One bit for each endpoint that has had a stable connection.
    proven: u64,
    /// One bit for each hopeless endpoint.
    hopeless: u64,
}

impl Default for Endpoints {
    fn default() -> Self {
        Self {
            route: Route::ONLY,
            proven: 0,
            hopeless: 0,
        }
    }
}

impl Endpoints {
    /// Begins a dial whose route is not known yet.
    pub(crate) fn forget_route(&mut self) {
        self.route.more_addresses = false;
    }

    pub(crate) fn dial(&mut self, route: Route) {
        self.route = route;
    }

    /// Records that the present endpoint has had a stable connection.
    pub(crate) fn proved(&mut self) {
        self.proven |= bit(self.route.endpoint);
    }

    pub(crate) fn is_proven(&self) -> bool {
        self.proven & bit(self.route.endpoint) != 0
    }

    pub(crate) fn is_hopeless(&self, endpoint: u8) -> bool {
        self.hopeless & bit(endpoint) != 0
    }

    /// Marks the endpoint hopeless if the dialled address was its last one. Returns true if all endpoints are
    /// hopeless then.
    pub(crate) fn is_last_hope(&mut self) -> bool {
        !self.route.more_addresses && self.condemn()
    }

    /// Marks the present endpoint hopeless. Returns true if all endpoints are hopeless then.
    pub(crate) fn condemn(&mut self) -> bool {
        self.hopeless |= bit(self.route.endpoint);
        let count = u32::from(self.route.endpoints.clamp(1, Route::MOST));
        let all = u64::MAX >> (u64::BITS - count);
        self.hopeless & all == all
    }
}

fn bit(endpoint: u8) -> u64 {
    1 << endpoint.min(Route::MOST - 1)
}

/// The state of the credentials: refused by a server, fresh, or accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "trace", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "trace", serde(deny_unknown_fields))]
pub(crate) struct Credentials {
    /// The side that refused the last credentials. Fresh ones are asked for until some are accepted.
    refused_by: Option<Judge>,
    /// The latest dial was asked for fresh credentials.
    fresh: bool,
}

/// A side that can refuse credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "trace", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "trace", serde(rename_all = "snake_case"))]
enum Judge {
    /// A proxy (407). Any answer from beyond the proxy shows that the proxy accepted the credentials.
    Proxy,
    /// The server's answer to the upgrade. 101 accepts the credentials.
    Upgrade,
    /// The service behind the server, by a close code or in the session. Credentials are accepted by a ready
    /// session, or by a stable connection where there is no session.
    Service,
}

impl Judge {
    fn of(cause: Cause) -> Self {
        match cause {
            Cause::Http { status: 407, .. } => Self::Proxy,
            Cause::Http { .. } => Self::Upgrade,
            _ => Self::Service,
        }
    }
}

impl Credentials {
    /// Begins a dial. Returns true if the dial needs fresh credentials.
    pub(crate) fn dial(&mut self) -> bool {
        self.fresh = self.refused_by.is_some();
        self.fresh
    }

    /// Notes that the upgrade is done.
    pub(crate) fn upgraded(&mut self) {
        if let Some(Judge::Proxy | Judge::Upgrade) = self.refused_by {
            self.refused_by = None;
        }
    }

    /// Notes that the session is ready, or the connection stable.
    pub(crate) fn accepted(&mut self) {
        self.refused_by = None;
    }

    /// Returns true if the refused request carried fresh credentials for the side (proxy or server) that refused
    /// it.
    pub(crate) fn were_fresh(&self, cause: Cause) -> bool {
        let is_proxy = |judge| judge == Judge::Proxy;
        self.fresh
            && self
                .refused_by
                .is_some_and(|judge| is_proxy(judge) == is_proxy(Judge::of(cause)))
    }

    /// Notes a refusal. The next dials need fresh credentials.
    pub(crate) fn refused(&mut self, cause: Cause) {
        self.refused_by = Some(Judge::of(cause));
    }
}
