//! Sizes and durations as people write them.

/// Bytes from `16MB` and the like, in PostgreSQL's units (B, kB, MB, GB, TB; factor 1024; manual,
/// 20.1.1) and their usual other spellings, or bare bytes.
#[must_use]
pub fn bytes(text: &str) -> Option<u64> {
    let (number, unit) = number_and_unit(text)?;
    let power = match unit {
        "" | "B" => 0,
        "kB" | "KB" | "KiB" | "k" | "K" => 1,
        "MB" | "MiB" | "M" => 2,
        "GB" | "GiB" | "G" => 3,
        "TB" | "TiB" | "T" => 4,
        _ => return None,
    };
    number.checked_mul(1024_u64.checked_pow(power)?)
}

/// Milliseconds from `10s`, `500ms`, `2min`, `1h`, `1d`; bare numbers are seconds.
#[must_use]
pub fn milliseconds(text: &str) -> Option<u64> {
    let (number, unit) = number_and_unit(text)?;
    let factor = match unit {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(factor)
}

fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    Some((number.parse().ok()?, unit.trim()))
}

#[cfg(test)]
mod tests {
    use super::{bytes, milliseconds};

    #[test]
    fn units_are_postgresqls() {
        assert_eq!(bytes("16MB"), Some(16 << 20));
        assert_eq!(bytes("1 GB"), Some(1 << 30));
        assert_eq!((bytes("8192"), bytes("1.5GB"), bytes("5mb")), (Some(8192), None, None));
        assert_eq!(bytes("99999999999999TB"), None);
        assert_eq!((milliseconds("10s"), milliseconds("3")), (Some(10_000), Some(3_000)));
        assert_eq!((milliseconds("2min"), milliseconds("1w")), (Some(120_000), None));
    }
}
