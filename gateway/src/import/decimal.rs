//! Decimal text to whole numbers, exactly: a coordinate never passes through a float.

/// The value of a decimal text times ten to the power of `scale`, rounded half away from zero. `None` where the text is
/// not a decimal number or the result does not fit. An exponent is understood, since some programs write `-5e-05`.
pub fn scaled(text: &str, scale: u32) -> Option<i64> {
    let text = text.trim();
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (negative, digits) = match mantissa.as_bytes().first()? {
        b'-' => (true, &mantissa[1..]),
        b'+' => (false, &mantissa[1..]),
        _ => (false, mantissa),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let places = i32::try_from(whole.len()).ok()?.checked_add(exponent)?.checked_add(i32::try_from(scale).ok()?)?;
    let value = rounded(whole.bytes().chain(fraction.bytes()), places)?;
    Some(if negative { -value } else { value })
}

/// The number that the first `places` digits make, rounded by the digit after them; zeros are added where there are fewer.
fn rounded(digits: impl Iterator<Item = u8>, places: i32) -> Option<i64> {
    let (mut value, mut taken, mut up) = (0_i64, 0_i32, false);
    for digit in digits {
        let digit = char::from(digit).to_digit(10)?;
        if taken < places {
            value = value.checked_mul(10)?.checked_add(i64::from(digit))?;
        } else if taken == places {
            up = digit >= 5;
        }
        taken = taken.checked_add(1)?;
    }
    // A number of more than nineteen digits fits nothing that is measured here, however it is written.
    if value != 0 {
        for _ in taken..places {
            value = value.checked_mul(10)?;
        }
    }
    value.checked_add(i64::from(up && places >= 0))
}

#[cfg(test)]
mod tests {
    use super::scaled;

    #[test]
    fn degrees_become_whole_1e7ths_exactly() {
        for (text, expected) in [
            ("30.2691", 302_691_000),
            ("-97.743286", -977_432_860),
            ("0.1", 1_000_000),
            (".5", 5_000_000),
            ("5.", 50_000_000),
            ("-0.00000005", -1),
            ("0.00000004", 0),
            ("30.26910000000000000000000000000001", 302_691_000),
            ("-5e-05", -500),
            ("3.02E1", 302_000_000),
            ("+12", 120_000_000),
        ] {
            assert_eq!(scaled(text, 7), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_decimal_number_is_nothing() {
        for text in ["", " ", "-", ".", "1.2.3", "nan", "inf", "1,5", "0x1", "1e", "--1", "1 2", "9e99"] {
            assert_eq!(scaled(text, 7), None, "{text}");
        }
    }
}
