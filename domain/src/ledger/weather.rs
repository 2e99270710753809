//! What a simulation does to a back end in memory.

use async_trait::async_trait;

use super::Fault;
use crate::kernel::Timestamp;

/// What a back end in memory asks around each of its steps. Whoever answers decides how long a step takes, whether it
/// fails, and, by never answering, that the process has ended there.
#[async_trait]
pub trait Weather: Send + Sync {
    /// Before a step. A fault means that the step is not done.
    async fn before(&self, doing: &'static str) -> Result<(), Fault>;

    /// After a step. A fault means that its answer is lost.
    async fn after(&self, doing: &'static str) -> Result<(), Fault>;

    /// The time by the clock of the process.
    fn now(&self) -> Timestamp;
}
