//! The life of an aggregate that begins once and may end for good.

use super::Decision;

/// With what an aggregate began, and whether it has ended.
#[derive(Debug)]
pub struct Lifespan<'a, T> {
    begun: Option<&'a T>,
    ended: bool,
}

impl<'a, T> Lifespan<'a, T> {
    /// The life of something that began with this.
    pub fn of(begun: Option<&'a T>, ended: bool) -> Self {
        Self { begun, ended }
    }

    /// Begins it with what `event` makes of the wish. The same beginning again changes nothing, another one is refused.
    pub fn begin<E, R>(&self, with: T, otherwise: R, event: impl FnOnce(T) -> Result<E, R>) -> Result<Decision<E>, R>
    where
        T: PartialEq,
    {
        match self.begun {
            Some(known) if *known == with => Ok(Decision::nothing()),
            Some(_) => Err(otherwise),
            None => event(with).map(Decision::from),
        }
    }

    /// What it began with, while it lasts.
    pub fn lasts<R>(&self, missing: R, over: R) -> Result<&'a T, R> {
        match self.begun {
            None => Err(missing),
            Some(_) if self.ended => Err(over),
            Some(begun) => Ok(begun),
        }
    }

    /// Ends it. Once more changes nothing.
    pub fn end<E, R>(&self, missing: R, event: E) -> Result<Decision<E>, R> {
        if self.begun.is_none() {
            return Err(missing);
        }
        Ok(Decision::unless(self.ended, event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(life: &Lifespan<'_, u8>) -> Result<usize, &'static str> {
        life.begin(7, "otherwise", Ok).map(|decision: Decision<u8>| decision.events.len())
    }

    #[test]
    fn a_life_begins_once() {
        assert_eq!(begin(&Lifespan::of(None, false)), Ok(1));
        assert_eq!(begin(&Lifespan::of(Some(&7), false)), Ok(0));
        assert_eq!(begin(&Lifespan::of(Some(&8), false)), Err("otherwise"));
    }

    #[test]
    fn what_has_not_begun_or_has_ended_does_not_last() {
        let lasts = |begun, ended| Lifespan::of(begun, ended).lasts("missing", "over").copied();
        assert_eq!(
            [lasts(None, false), lasts(Some(&7), false), lasts(Some(&7), true)],
            [Err("missing"), Ok(7), Err("over")]
        );
    }

    #[test]
    fn a_life_ends_once() {
        let end = |begun: Option<&u8>, ended| Lifespan::of(begun, ended).end("missing", ()).map(|end| end.events.len());
        assert_eq!([end(None, false), end(Some(&7), false), end(Some(&7), true)], [Err("missing"), Ok(1), Ok(0)]);
    }
}
