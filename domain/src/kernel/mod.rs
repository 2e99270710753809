//! The kernel: what every rule is made of. It knows nothing of moving, and nothing of how anything is stored or sent.

mod aggregate;
mod context;
mod decision;
mod docs;
mod fold;
pub mod given;
mod id;
mod lifespan;
mod message;
mod outbox;
mod personal;
mod province;
mod rules;
pub mod schema;
mod settings;
pub mod story;
mod time;
mod units;

pub use aggregate::{Aggregate, Lift};
pub use context::{Actor, Context, OutOfTime};
pub use decision::{Also, Decision, Rejection};
pub use docs::{Change, Docs, Document, Shelf};
pub use fold::{Fold, FoldKind, Folded, On, Present, Reading, Reads, Running, Stop, Told, Tried, fold, try_batch};
pub use given::Given;
pub use id::{CommandId, CompanyId, Id, LocationId, UserId, marker};
pub use lifespan::Lifespan;
pub use message::{Message, Unreadable};
pub use outbox::{Deadline, Outbox, Sent};
pub use personal::{Address, Clear, Email, Kind, Name, Nothing, Opened, Part, Personal, Phone, Sealed, Words, kind};
pub use province::Province;
pub use rules::{Decided, Module, Recorded, Rules, State, aggregate};
pub use settings::{BoardSettings, DeviceTime, Settings};
pub use story::Story;
pub use time::{Minutes, Seconds, Timestamp, Window};
pub use units::{Cents, CmPerSecond, LatE7, LonE7, Metres, TenthsCuft};
