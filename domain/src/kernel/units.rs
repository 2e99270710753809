//! Quantities as newtypes of integers, with the unit in the name. Nothing recorded is ever a float.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

macro_rules! quantity {
    ($($(#[$doc:meta])* $name:ident($number:ty) [$min:literal, $max:literal];)*) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(transparent)]
        #[schemars(inline)]
        pub struct $name(#[schemars(range(min = $min, max = $max))] pub $number);
    )* };
}

quantity! {
    /// Money in minor units (cents) of the company's currency.
    Cents(i64) [-9_007_199_254_740_991i64, 9_007_199_254_740_991i64];
    /// Volume in tenths of a cubic foot.
    TenthsCuft(u32) [0, 10_000_000];
    /// Distance in metres.
    Metres(u32) [0, 100_000_000];
    /// Speed in centimetres per second.
    CmPerSecond(u32) [0, 100_000];
    /// Latitude in 1e-7 degrees, north positive.
    LatE7(i32) [-900_000_000, 900_000_000];
    /// Longitude in 1e-7 degrees, east positive.
    LonE7(i32) [-1_800_000_000, 1_800_000_000];
}
