//! The faults, and how each strikes.

use std::time::Duration;

use sqlx::{Connection as _, Executor as _, PgConnection};

use super::{
    Random, poison,
    world::{Nats, World},
};
use crate::{split::Part, wire::Mode};

/// What goes wrong. Every fault ends before the next begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A gateway is killed and started again.
    KillGateway,
    /// The relay that works, or the one that waits, is killed and started again.
    KillRelay,
    /// A process that folds views is killed and started again.
    KillFolds,
    /// A process that runs triggers is killed and started again.
    KillWorkers,
    /// The broker is killed and started again.
    KillNats,
    /// One of three brokers is killed and started again.
    KillNode,
    /// All three brokers are killed and started again.
    KillAllNodes,
    /// Postgres stops as at a power cut and starts again.
    KillPostgres,
    /// The broker starts again with an empty disk.
    WipeNats,
    /// The broker starts again without what it stored last.
    RewindNats,
    /// What the broker delivers is repeated and reordered.
    Jumble,
    /// The network to the broker is cut.
    CutNats,
    /// The network to Postgres is cut.
    CutPostgres,
    /// The network to both is slow.
    Slow,
    /// The relay that works stands still until another has taken over, and then goes on as if nothing had been.
    TwoRelays,
    /// Any process stands still for some seconds, perhaps with a lock in its hand, and goes on.
    Freeze,
    /// Postgres has no room on its disk.
    DiskFull,
    /// The clock of each process is set ahead or back by an amount of its own, and right again.
    ClockSteps,
    /// An entry that nobody can fold arrives in another company of the same deployment.
    Poison,
    /// Any of the others that need no disk, clocks or cluster of their own.
    Any,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 20] = [
        Self::KillGateway,
        Self::KillRelay,
        Self::KillFolds,
        Self::KillWorkers,
        Self::KillNats,
        Self::KillNode,
        Self::KillAllNodes,
        Self::KillPostgres,
        Self::WipeNats,
        Self::RewindNats,
        Self::Jumble,
        Self::CutNats,
        Self::CutPostgres,
        Self::Slow,
        Self::TwoRelays,
        Self::Freeze,
        Self::DiskFull,
        Self::ClockSteps,
        Self::Poison,
        Self::Any,
    ];

    /// Those that strike a deployment that is like any other.
    pub fn everywhere() -> Vec<Self> {
        Self::ALL.into_iter().filter(|fault| fault.fits_everywhere()).collect()
    }

    /// Whether it needs no disk, clocks or cluster of its own and leaves no part behind that others must wait for.
    fn fits_everywhere(self) -> bool {
        !self.needs_three() && !matches!(self, Self::DiskFull | Self::ClockSteps | Self::TwoRelays | Self::Any)
    }

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::KillGateway => "kill-gateway",
            Self::KillRelay => "kill-relay",
            Self::KillFolds => "kill-folds",
            Self::KillWorkers => "kill-workers",
            Self::KillNats => "kill-nats",
            Self::KillNode => "kill-node",
            Self::KillAllNodes => "kill-all-nodes",
            Self::KillPostgres => "kill-postgres",
            Self::WipeNats => "wipe-nats",
            Self::RewindNats => "rewind-nats",
            Self::Jumble => "jumble",
            Self::CutNats => "cut-nats",
            Self::CutPostgres => "cut-postgres",
            Self::Slow => "slow",
            Self::TwoRelays => "two-relays",
            Self::Freeze => "freeze",
            Self::DiskFull => "disk-full",
            Self::ClockSteps => "clock-steps",
            Self::Poison => "poison",
            Self::Any => "any",
        }
    }

    /// Whether it strikes a cluster of brokers.
    pub fn needs_three(self) -> bool {
        matches!(self, Self::KillNode | Self::KillAllNodes)
    }
}

/// Lets a fault strike once, and ends it.
pub(super) async fn strike(fault: Fault, world: &World, random: &mut Random) {
    let pause = Duration::from_millis(random.between(0, 400));
    match fault {
        Fault::KillGateway => kill(random.one_of(&world.gateways), pause).await,
        Fault::KillRelay => kill(random.one_of(&world.relays), pause).await,
        Fault::KillFolds => kill(random.one_of(&world.folds), pause).await,
        Fault::KillWorkers => kill(random.one_of(&world.workers), pause).await,
        Fault::KillNats | Fault::KillNode | Fault::KillAllNodes | Fault::WipeNats | Fault::RewindNats => {
            strike_nats(fault, world, random, pause).await;
        }
        Fault::KillPostgres => world.postgres.crash(),
        Fault::Jumble => hold(world.to_nats.iter(), Mode::Jumbled, pause).await,
        Fault::CutNats => hold(world.to_nats.iter(), *random.one_of(&[Mode::Cut, Mode::Stalled]), pause).await,
        Fault::CutPostgres => hold([&world.to_postgres], *random.one_of(&[Mode::Cut, Mode::Stalled]), pause).await,
        Fault::Slow => {
            let delay = Mode::Slow(Duration::from_millis(random.between(1, 30)));
            hold(world.to_nats.iter().chain([&world.to_postgres]), delay, pause * 2).await;
        }
        Fault::TwoRelays => two_relays(world, random).await,
        Fault::Freeze => freeze(world, random).await,
        Fault::DiskFull => fill_disk(world, pause).await,
        Fault::ClockSteps => step_clocks(world, random).await,
        Fault::Poison => poison::strike(world, random).await,
        Fault::Any => {
            let fault = *random.one_of(&Fault::everywhere());
            Box::pin(strike(fault, world, random)).await;
        }
    }
}

async fn kill(part: &Part, pause: Duration) {
    part.kill();
    tokio::time::sleep(pause).await;
    part.start_again();
}

async fn strike_nats(fault: Fault, world: &World, random: &mut Random, pause: Duration) {
    match &world.nats {
        Nats::One(broker) => match fault {
            Fault::WipeNats => broker.wipe(),
            Fault::RewindNats => {
                broker.remember();
                world.go_on_for(random.between(20, 200)).await;
                broker.forget_what_followed();
            }
            _ => {
                broker.kill();
                tokio::time::sleep(pause).await;
                broker.start_again();
            }
        },
        Nats::Three(brokers) => {
            let nodes = if fault == Fault::KillAllNodes { vec![0, 1, 2] } else { vec![*random.one_of(&[0, 1, 2])] };
            for node in &nodes {
                brokers.kill(*node);
            }
            tokio::time::sleep(pause).await;
            brokers.start_all_again(&nodes);
        }
    }
}

async fn hold<'a>(wires: impl IntoIterator<Item = &'a crate::wire::Wire>, mode: Mode, pause: Duration) {
    let wires: Vec<_> = wires.into_iter().collect();
    for wire in &wires {
        wire.set(mode);
    }
    tokio::time::sleep(pause).await;
    for wire in &wires {
        wire.set(Mode::Open);
    }
}

/// The one that holds the lease is frozen; its lease runs out by the database's clock, which is waited for.
async fn two_relays(world: &World, random: &mut Random) {
    let frozen = random.one_of(&world.relays);
    frozen.freeze();
    let mut database = PgConnection::connect(&world.database).await.expect("Postgres answers");
    // As if the time had passed. Where it was frozen with a lock on its row, the others get no further either until the
    // server has lost patience with it.
    let expire = "SET lock_timeout = '30s'; UPDATE cnc.relays SET alive_until = now() - interval '1 second'";
    database.execute(expire).await.expect("leases can be made to run out");
    world.go_on_for(random.between(60, 200)).await;
    frozen.thaw();
}

/// Others go on meanwhile: what the database had locked for the frozen one is free again when it has lost patience.
async fn freeze(world: &World, random: &mut Random) {
    let parts: Vec<&Part> = world.parts().collect();
    let frozen = random.one_of(&parts);
    frozen.freeze();
    world.go_on_for(random.between(20, 80)).await;
    frozen.thaw();
}

/// From seconds to a year, ahead or back; some processes go ahead while others go back. One gateway stays within what is
/// believed: by no other would commands be recorded.
async fn step_clocks(world: &World, random: &mut Random) {
    let believed = random.one_of(&world.gateways).name().to_owned();
    for part in world.parts() {
        let spans = [(1, 60), (60, 3_600), (3_600, 86_400), (31_536_000, 31_536_001)];
        let (least, most) = if part.name() == believed { (1, 4) } else { *random.one_of(&spans) };
        let step = random.between(least, most).cast_signed();
        part.set_clock(*random.one_of(&[step, -step]));
    }
    world.go_on_for(random.between(40, 150)).await;
    world.parts().for_each(|part| part.set_clock(0));
}

async fn fill_disk(world: &World, pause: Duration) {
    let disk = world.disk.as_ref().expect("this fault has a disk of its own");
    disk.fill();
    tokio::time::sleep(pause + Duration::from_millis(300)).await;
    disk.free();
    // A server that has no room for its log ends itself.
    world.postgres.crash();
}
