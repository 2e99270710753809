//! What a company may set for itself. Every figure here is a default of the domain, not a constant of the code, and
//! each part belongs to the module that reads it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

macro_rules! settings {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty = $default:expr,)* })*) => { $(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        #[serde(default)]
        #[schemars(inline)]
        pub struct $name { $($(#[$field_doc])* pub $field: $type,)* }
        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }
    )* };
}

settings! {
    /// All settings of a company. A part or a figure that is left out has its default.
    Settings {
        /// How far a device's clock may be from the server's.
        device_time: DeviceTime = DeviceTime::default(),
        /// When the live board calls for attention.
        board: BoardSettings = BoardSettings::default(),
    }

    /// How far `occurred_at` of a crew's command may be from the server's time.
    DeviceTime {
        /// At most this far ahead.
        ahead_max_seconds: u32 = 300,
        /// At most this far behind: a phone that was offline for three days.
        behind_max_seconds: u32 = 72 * 3600,
        /// `depart` without a position takes the newest fix that is at most this far from it.
        fix_for_departure_seconds: u32 = 900,
    }

    /// When the live board calls for attention.
    BoardSettings {
        /// A journey should be acknowledged this long before its window starts.
        acknowledge_before_minutes: u32 = 15,
        /// A journey should have departed this long after its window has started.
        depart_after_minutes: u32 = 10,
        /// A truck that moves should report its position at least this often.
        silence_max_minutes: u32 = 20,
    }
}
