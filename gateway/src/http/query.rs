//! The question part of a URL: every parameter is taken by name, once, and what nobody takes is refused.

use axum::{
    extract::{FromRequestParts, Query},
    http::request::Parts,
};
use cnc_commands::AsOf;
use cnc_domain::ledger::Position;

use crate::{
    limits::{Limits, NUMBER_MAX},
    problem::Problem,
};

/// The parameters of a request that nobody has taken yet.
#[derive(Debug)]
pub struct Asked(Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Asked {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let wrong = |why| Problem::bad_request("bad_query", why);
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri)
            .map_err(|_| wrong("the query is not a list of name=value"))?;
        // Nothing that is kept has it, and Postgres takes it for no text at all.
        if pairs.iter().any(|(_, value)| value.contains('\0')) {
            return Err(wrong("a parameter holds U+0000"));
        }
        Ok(Self(pairs))
    }
}

impl Asked {
    /// Takes a parameter. The same one twice is refused.
    pub fn take(&mut self, name: &str) -> Result<Option<String>, Problem> {
        let Some(place) = self.0.iter().position(|(found, _)| found == name) else { return Ok(None) };
        let (_, value) = self.0.remove(place);
        if self.0.iter().any(|(found, _)| found == name) {
            return Err(Problem::bad_request("bad_query", format!("{name} is given twice")));
        }
        Ok(Some(value))
    }

    /// Takes a number.
    pub fn number(&mut self, name: &str) -> Result<Option<u64>, Problem> {
        let Some(text) = self.take(name)? else { return Ok(None) };
        number(&text).map(Some).ok_or_else(|| {
            Problem::bad_request("bad_query", format!("{name} must be a whole number from 0 to {NUMBER_MAX}"))
        })
    }

    /// Takes the size of a page.
    pub fn limit(&mut self, limits: &Limits) -> Result<usize, Problem> {
        let Some(limit) = self.number("limit")? else { return Ok(limits.page) };
        let max = limits.page_max;
        usize::try_from(limit)
            .ok()
            .filter(|limit| (1..=max).contains(limit))
            .ok_or_else(|| Problem::bad_request("bad_query", format!("limit must be from 1 to {max}")))
    }

    /// Takes a position or a time in the past.
    pub fn as_of(&mut self) -> Result<Option<AsOf>, Problem> {
        let Some(text) = self.take("as_of")? else { return Ok(None) };
        if let Some(position) = number(&text) {
            return Ok(Some(AsOf::Position(position)));
        }
        text.parse().map(AsOf::Time).map(Some).map_err(|_| {
            let why = "as_of must be a position or an RFC 3339 time, such as 2026-11-21T01:40:05Z";
            Problem::bad_request("bad_query", why)
        })
    }

    /// Says that nothing else may have been asked.
    pub fn done(self) -> Result<(), Problem> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => {
                let name: String = name.chars().take(80).collect();
                Err(Problem::bad_request("bad_query", format!("there is no parameter {name:?} here")))
            }
        }
    }
}

/// Digits only, and within what JSON can say exactly.
fn number(text: &str) -> Option<Position> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| digits && *number <= NUMBER_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(text: &str) -> Asked {
        Asked(text.split('&').filter_map(|pair| pair.split_once('=')).map(|(a, b)| (a.into(), b.into())).collect())
    }

    #[test]
    fn what_nobody_takes_is_refused() {
        let mut query = asked("limit=5&colour=red");
        assert_eq!(query.limit(&Limits::default()).expect("fits"), 5);
        assert_eq!(query.done().expect_err("colour is left").code(), "bad_query");
    }

    #[test]
    fn numbers_out_of_range_and_repeated_parameters_are_refused() {
        for text in
            ["limit=0", "limit=501", "limit=-1", "limit=+5", "limit=", "limit=1&limit=2", "limit=99999999999999999999"]
        {
            assert!(asked(text).limit(&Limits::default()).is_err(), "{text}");
        }
    }

    #[test]
    fn as_of_is_a_position_or_a_time() {
        assert!(matches!(asked("as_of=7").as_of(), Ok(Some(AsOf::Position(7)))));
        assert!(matches!(asked("as_of=2026-11-21T01:40:05Z").as_of(), Ok(Some(AsOf::Time(_)))));
        assert!(asked("as_of=yesterday").as_of().is_err());
    }
}
