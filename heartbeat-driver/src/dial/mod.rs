//! From the decision to dial to an open byte stream: which request, when, to which addresses.
//!
//! In: the machine's dials, the application's factory, its dial budget. Out: a [`Dial`] that an adapter carries out.
//! Read `factory.rs` for *where to*, `budget.rs` for *when*, `tcp.rs` for *how*.

mod addresses;
mod budget;
mod factory;
mod resolver;
mod tcp;

pub(crate) use self::addresses::Addresses;
pub use self::addresses::interleave;
pub use self::budget::{DialBudget, DialLimiter, Grant};
pub(crate) use self::budget::{Gate, client_of};
pub use self::factory::Attempt;
pub(crate) use self::factory::{
    FACTORY, Factory, FactoryWaker, Make, Offload, PendingRequest, RequestResult,
};
pub use self::resolver::Resolver;
pub use self::tcp::{Dial, Resolving, TcpOptions, is_writable, keep_unsent_short};
