//! How far somebody may see and act within their company.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::LocationId;

/// How far somebody may see and act within their company. The usual one reaches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// The branches that they are bound to; to none where there is no list.
    pub locations: Option<BTreeSet<LocationId>>,
    /// Who they are in the field, where they see of the work there only what they take part in themselves.
    pub participant: Option<Uuid>,
}

/// What was asked for concerns more than the branches that its sender is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutOfScope {
    /// The branches that the sender is bound to.
    pub yours: BTreeSet<LocationId>,
}

impl Scope {
    /// The scope of somebody who is bound to these branches.
    pub fn within(locations: impl IntoIterator<Item = LocationId>) -> Self {
        Self { locations: Some(locations.into_iter().collect()), participant: None }
    }

    /// Whether it reaches everything.
    pub fn is_unlimited(&self) -> bool {
        *self == Self::default()
    }

    /// Whether something of this branch may be seen. What belongs to no branch belongs to the whole company.
    pub fn covers(&self, location: Option<LocationId>) -> bool {
        match (&self.locations, location) {
            (Some(bound), Some(location)) => bound.contains(&location),
            _ => true,
        }
    }

    /// Refuses what only somebody may do who is bound to none but these branches, or fewer; where there is no list, what
    /// only somebody may do who is bound to no branch.
    pub fn spans(&self, locations: Option<&BTreeSet<LocationId>>) -> Result<(), OutOfScope> {
        match (&self.locations, locations) {
            (None, _) => Ok(()),
            (Some(bound), Some(locations)) if locations.is_subset(bound) => Ok(()),
            (Some(bound), _) => Err(OutOfScope { yours: bound.clone() }),
        }
    }

    /// Refuses what concerns the whole company to whoever is bound to branches.
    pub fn spans_company(&self) -> Result<(), OutOfScope> {
        self.spans(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: LocationId = LocationId::number(1);
    const TWO: LocationId = LocationId::number(2);

    #[test]
    fn who_is_bound_to_no_branch_reaches_everything() {
        let scope = Scope::default();
        assert!(scope.is_unlimited() && scope.covers(Some(ONE)) && scope.covers(None));
        assert_eq!((scope.spans(None), scope.spans(Some(&BTreeSet::from([ONE])))), (Ok(()), Ok(())));
    }

    #[test]
    fn who_is_bound_to_branches_reaches_those_and_what_belongs_to_none() {
        let scope = Scope::within([ONE]);
        assert!(scope.covers(Some(ONE)) && scope.covers(None) && !scope.covers(Some(TWO)));
        let out = || Err(OutOfScope { yours: BTreeSet::from([ONE]) });
        assert_eq!(scope.spans(Some(&BTreeSet::from([ONE]))), Ok(()));
        assert_eq!(scope.spans(Some(&BTreeSet::from([ONE, TWO]))), out());
        assert_eq!(scope.spans_company(), out());
    }
}
