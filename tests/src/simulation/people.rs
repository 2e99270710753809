//! The people of the simulated companies: they give commands, try again under the same key until they are answered, and
//! sometimes ask again what they were answered before.

use std::{sync::Arc, time::Duration};

use cnc_commands::{HostError, Request};
use cnc_domain::{
    kernel::{Actor, CommandId, CompanyId, Id, Message, UserId},
    ledger::Answer,
};

use super::{
    Given, World,
    tills::{Command, Till},
};

/// How many tills a company has: few, so that people get into each other's way.
const TILLS: u64 = 3;

/// What one person wants.
struct Wish {
    company: CompanyId,
    till: Id<Till>,
    command: Command,
    key: String,
}

/// Gives `count` commands, one after the other.
pub async fn work(world: Arc<World>, person: u64, count: u64) {
    for nth in 0..count {
        let wish = world.draw(|chance, _| {
            let till = |number: u64| Id::<Till>::number(u128::from(100 + number));
            let amount = 1 + i64::try_from(chance.below(9)).unwrap_or_default();
            let command = match chance.below(10) {
                0..5 => Command::PutIn { amount },
                5..8 => {
                    Command::Share { to: (0..=chance.below(2)).map(|_| till(chance.below(TILLS))).collect(), amount }
                }
                _ => Command::Empty,
            };
            let company = *chance.one_of(&world.companies);
            Wish { company, till: till(chance.below(TILLS)), command, key: format!("{person}-{nth}") }
        });
        let answer = insist(&world, &wish, person).await;
        world.trace(|| format!("person {person} is answered {} at {}", wish.key, answer.position));
        world.given().push(Given {
            company: wish.company,
            till: wish.till,
            key: wish.key.clone(),
            answer: answer.clone(),
        });
        if world.draw(|chance, _| chance.happens(200)) {
            let again = insist(&world, &wish, person).await;
            let again = Answer { replayed: answer.replayed, ..again };
            // What was refused may be right by now: its key is free.
            if answer.rejection.is_some() {
                world.given().push(Given { company: wish.company, till: wish.till, key: wish.key, answer: again });
            } else if format!("{answer:?}") != format!("{again:?}") {
                world.breaks(format!("the key {} was answered {answer:?} and then {again:?}", wish.key));
            }
        }
        let pause = world.draw(|chance, _| *chance.one_of(&[0, 0, 5, 100, 2_000]));
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
}

/// Asks until there is an answer, of whatever process is there.
async fn insist(world: &Arc<World>, wish: &Wish, person: u64) -> Answer {
    loop {
        let (process, patience) = (world.any_process(), world.draw(|chance, _| 200 + chance.below(15_000)));
        if let Some(process) = process {
            let asked = process.host.execute(request(world, wish, person));
            match tokio::time::timeout(Duration::from_millis(patience), asked).await {
                // What the server told a process that ended meanwhile, nobody heard.
                _ if process.life.has_ended() => {}
                Ok(Ok(answer)) => return answer,
                Ok(Err(HostError::Fault(fault))) if fault.passing => {}
                Ok(Err(HostError::Busy | HostError::ClockSkew(_))) | Err(_) => {}
                Ok(Err(error)) => world.breaks(format!("{} was answered with: {error:?}", wish.key)),
            }
        }
        let pause = world.draw(|chance, _| 10 + chance.below(500));
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
}

/// Every attempt is a command of its own, under the same key.
fn request(world: &World, wish: &Wish, person: u64) -> Request {
    let command = world.next_command(&wish.key);
    Request {
        company: wish.company,
        stream: "till".into(),
        id: wish.till.uuid(),
        command: Message::split(&wish.command),
        command_id: CommandId::number(u128::from(command)),
        actor: Actor::User { user: UserId::number(u128::from(person)), role: "dispatcher".into() },
        location: None,
        correlation: None,
        causation: None,
        idempotency_key: Some(wish.key.clone()),
        if_match: None,
        internal_allowed: false,
        scope: std::sync::Arc::default(),
    }
}
