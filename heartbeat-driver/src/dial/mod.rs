//! Dials, up to an open byte stream: which request, when, and to which addresses.
//!
//! In: the machine's dials, the application's factory and dial budget. Out: a [`Dial`] for the adapter.
//! `factory.rs` decides *where* to dial, `budget.rs` *when*, `tcp.rs` *how*.

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
