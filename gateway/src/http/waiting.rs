//! What waits to be read: answers and messages that were made for clients who have not taken them yet, and bodies that are on their
//! way, counted in bytes, so that however many clients do not read or send, what is kept for them is bounded.

use std::sync::Arc;

use axum::{
    body::{Body, HttpBody as _},
    response::{IntoResponse as _, Response},
};
use cnc_projections::{Place, Places};

use super::shares::Person;
use crate::problem::Problem;

/// Bytes are counted in these.
const UNIT: usize = 1 << 10;
/// A smaller answer is not counted: how many there are is bounded.
const SMALL: u64 = 16 << 10;
/// What an answer keeps at once that is made while it is read: a chunk of a ledger, compressed.
const STREAMED: usize = 2 << 20;

/// Bytes that may wait, and how many of them of one user.
pub(crate) struct Waiting(Places<Person>);

/// What something that waits takes of them, until the last clone is dropped.
#[derive(Clone)]
pub(crate) struct Waits {
    _place: Arc<Place<Person>>,
}

impl Waiting {
    /// So many bytes, and so many of one user.
    pub fn new(all: usize, each: usize) -> Self {
        Self(Places::new(all / UNIT, each / UNIT))
    }

    /// Takes room for so many bytes.
    pub fn take(&self, person: Person, bytes: usize) -> Option<Waits> {
        self.0.try_take_many(person, bytes.div_ceil(UNIT)).map(|place| Waits { _place: Arc::new(place) })
    }

    /// How many bytes wait.
    pub fn taken(&self) -> usize {
        self.0.taken() * UNIT
    }

    /// Room for the body of a request, until it has been dealt with.
    pub fn body(&self, person: Person, body: &Body, max: usize) -> Result<Option<Waits>, Problem> {
        let bytes = body.size_hint().exact().map_or(max, |size| usize::try_from(size).unwrap_or(max).min(max));
        if bytes as u64 <= SMALL {
            return Ok(None);
        }
        let room = self.take(person, bytes);
        room.map(Some).ok_or_else(|| Problem::busy("as much is being sent and read as this server holds at once"))
    }

    /// An answer that takes room until it has been read; where there is none, the answer is that.
    pub fn answer(&self, person: Person, mut response: Response) -> Response {
        let bytes = match response.body().size_hint().exact() {
            Some(size) if size <= SMALL => return response,
            Some(size) => usize::try_from(size).unwrap_or(usize::MAX),
            None => STREAMED,
        };
        let Some(waits) = self.take(person, bytes) else {
            return Problem::busy("too much of what was asked for before has not been read yet").into_response();
        };
        response.extensions_mut().insert(waits);
        response
    }
}

#[cfg(test)]
mod tests {
    use cnc_domain::kernel::{CompanyId, UserId};

    use super::*;
    use crate::principal::Principal;

    fn person(number: u128) -> Person {
        (CompanyId::number(1), Principal::User(UserId::number(number)))
    }

    fn large() -> Response {
        Response::new(Body::from(vec![b'x'; 40 << 10]))
    }

    #[test]
    fn who_does_not_read_is_made_no_more_answers_and_others_are() {
        let waiting = Waiting::new(200 << 10, 100 << 10);
        let unread: Vec<Response> = (0..2).map(|_| waiting.answer(person(1), large())).collect();
        assert!(unread.iter().all(|answer| answer.status() == 200));
        assert_eq!(waiting.answer(person(1), large()).status(), 503);
        assert_eq!(waiting.answer(person(1), Response::new(Body::from("small"))).status(), 200);
        assert_eq!(waiting.answer(person(2), large()).status(), 200);
        drop(unread);
        assert_eq!(waiting.answer(person(1), large()).status(), 200);
    }

    #[test]
    fn large_bodies_take_room_and_those_of_unknown_size_as_much_as_they_may_have() {
        let waiting = Waiting::new(400 << 10, 300 << 10);
        let unknown = || Body::from_stream(futures::stream::iter([Ok::<_, std::io::Error>("x")]));
        assert!(waiting.body(person(1), &Body::from("small"), 200 << 10).is_ok_and(|room| room.is_none()));
        let held = waiting.body(person(1), &unknown(), 200 << 10).expect("there is room");
        assert!(held.is_some() && waiting.taken() == 200 << 10);
        assert_eq!(waiting.body(person(1), &unknown(), 200 << 10).err().expect("is too much").code(), "busy");
        assert!(waiting.body(person(2), &unknown(), 200 << 10).is_ok());
    }

    #[test]
    fn an_answer_that_is_made_while_it_is_read_takes_room_too() {
        let waiting = Waiting::new(STREAMED, STREAMED);
        let streamed = || {
            let chunks = futures::stream::iter([Ok::<_, std::io::Error>("x")]);
            waiting.answer(person(1), Response::new(Body::from_stream(chunks)))
        };
        let unread = streamed();
        assert_eq!(streamed().status(), 503);
        drop(unread);
        assert_eq!(streamed().status(), 200);
    }
}
