//! Who takes how much of what is bounded: of all places, a company, an address and a user may each have some, so that none of
//! them can take what the others need.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use axum::http::{HeaderMap, HeaderName};
use cnc_domain::kernel::CompanyId;
use cnc_projections::{Place, Places};
use tokio::sync::Semaphore;

use crate::{principal::Principal, tokens::Claims};

/// Where a client comes from. An IPv6 client has a whole network of 2^64 addresses, which count as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Address(IpAddr);

impl From<IpAddr> for Address {
    fn from(ip: IpAddr) -> Self {
        Self(match ip.to_canonical() {
            IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64)),
            ip @ IpAddr::V4(_) => ip,
        })
    }
}

impl Address {
    /// The client that a trusted proxy names: the last address of the header, which alone the proxy wrote itself.
    pub fn forwarded(headers: &HeaderMap, name: &HeaderName) -> Option<Self> {
        let last = headers.get_all(name).iter().next_back()?.to_str().ok()?.rsplit(',').next()?.trim();
        // Some proxies write the port too.
        let ip = last.parse().or_else(|_| last.parse::<SocketAddr>().map(|address| address.ip()));
        ip.ok().map(IpAddr::into)
    }
}

/// A user or a service account of a company.
pub(crate) type Person = (CompanyId, Principal);

/// Who asks for a place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asker {
    /// As whom.
    pub person: Person,
    /// From where.
    pub address: Address,
}

impl Asker {
    /// The bearer of a token.
    pub fn of(claims: &Claims, address: Address) -> Self {
        Self { person: (claims.company, claims.sub), address }
    }

    /// Somebody, for tests of what is bounded.
    #[cfg(test)]
    pub fn sample(company: CompanyId, user: cnc_domain::kernel::UserId) -> Self {
        Self { person: (company, Principal::User(user)), address: Address(Ipv6Addr::LOCALHOST.into()) }
    }
}

/// Places, and how many of them a company, an address and a user may have at once.
pub(crate) struct Shares {
    companies: Places,
    addresses: Places<Address>,
    people: Places<Person>,
}

/// A place, held until it is dropped.
pub(crate) struct Held {
    _company: Place,
    _address: Place<Address>,
    _person: Place<Person>,
}

impl Shares {
    /// So many places, and the shares of one company, one address and one user.
    pub fn new(all: usize, company: usize, address: usize, person: usize) -> Self {
        // All of them are counted once, with the companies.
        let uncounted = Semaphore::MAX_PERMITS;
        Self {
            companies: Places::new(all, company),
            addresses: Places::new(uncounted, address),
            people: Places::new(uncounted, person),
        }
    }

    /// Takes a place when there is one. Who waits for its own share takes none of a larger one meanwhile.
    pub async fn take(&self, asker: Asker) -> Option<Held> {
        let person = self.people.take(asker.person).await?;
        let address = self.addresses.take(asker.address).await?;
        let company = self.companies.take(asker.person.0).await?;
        Some(Held { _company: company, _address: address, _person: person })
    }

    /// Takes a place if there is one now.
    pub fn try_take(&self, asker: Asker) -> Option<Held> {
        let person = self.people.try_take(asker.person)?;
        let address = self.addresses.try_take(asker.address)?;
        let company = self.companies.try_take(asker.person.0)?;
        Some(Held { _company: company, _address: address, _person: person })
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use cnc_domain::kernel::UserId;

    use super::*;

    fn ip(text: &str) -> Address {
        text.parse::<IpAddr>().expect("an address").into()
    }

    fn asker(company: u128, user: u128, address: &str) -> Asker {
        Asker { person: (CompanyId::number(company), Principal::User(UserId::number(user))), address: ip(address) }
    }

    #[test]
    fn neither_a_company_nor_an_address_nor_a_user_takes_all() {
        let shares = Shares::new(9, 4, 3, 2);
        let held = [shares.try_take(asker(1, 1, "10.0.0.1")), shares.try_take(asker(1, 1, "10.0.0.2"))];
        assert!(held.iter().all(Option::is_some));
        assert!(shares.try_take(asker(1, 1, "10.0.0.3")).is_none(), "the user has two");
        assert!(shares.try_take(asker(2, 1, "10.0.0.3")).is_some(), "another company's user of that number has none");
        let office = [2, 3].map(|user| shares.try_take(asker(1, user, "10.0.0.1")));
        assert!(office.iter().all(Option::is_some));
        assert!(shares.try_take(asker(2, 9, "10.0.0.1")).is_none(), "the address has three");
        assert!(shares.try_take(asker(1, 9, "10.0.0.9")).is_none(), "the company has four");
    }

    #[test]
    fn the_addresses_of_one_ipv6_network_are_one() {
        assert_eq!(ip("2001:db8:1:2::1"), ip("2001:db8:1:2:ffff::9"));
        assert_ne!(ip("2001:db8:1:2::1"), ip("2001:db8:1:3::1"));
        assert_eq!(ip("::ffff:10.0.0.1"), ip("10.0.0.1"));
    }

    #[test]
    fn of_a_forwarding_header_only_what_the_proxy_itself_wrote_counts() {
        let name = HeaderName::from_static("x-forwarded-for");
        let mut headers = HeaderMap::new();
        assert_eq!(Address::forwarded(&headers, &name), None);
        headers.append(&name, HeaderValue::from_static("1.1.1.1"));
        headers.append(&name, HeaderValue::from_static("2.2.2.2, 10.0.0.7"));
        assert_eq!(Address::forwarded(&headers, &name), Some(ip("10.0.0.7")));
        headers.append(&name, HeaderValue::from_static("[2001:db8::1]:443"));
        assert_eq!(Address::forwarded(&headers, &name), Some(ip("2001:db8::1")));
        headers.append(&name, HeaderValue::from_static("nonsense"));
        assert_eq!(Address::forwarded(&headers, &name), None);
    }
}
