//! Numbers as text, straight into bytes: on the way of every publish, where `fmt` takes several times as long.

/// Appends `number` in decimal, with zeros before it where it has fewer than `width` digits.
pub(crate) fn decimal(out: &mut Vec<u8>, mut number: u64, width: usize) {
    // As many as the largest number has.
    let mut digits = [b'0'; 20];
    let mut used = 0;
    for digit in digits.iter_mut().rev() {
        if number == 0 && used >= width.max(1) {
            break;
        }
        // Below 10.
        *digit += u8::try_from(number % 10).unwrap_or_default();
        number /= 10;
        used += 1;
    }
    let unused = digits.len() - used;
    out.extend_from_slice(digits.get(unused..).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_all_their_digits_and_no_zero_too_many() {
        for (number, width, text) in [
            (0, 0, "0"),
            (0, 1, "0"),
            (0, 2, "00"),
            (7, 1, "7"),
            (7, 3, "007"),
            (10, 1, "10"),
            (100, 2, "100"),
            (1_234_567_890, 1, "1234567890"),
            (u64::MAX, 1, "18446744073709551615"),
            (u64::MAX, 30, "18446744073709551615"),
        ] {
            let mut out = b"x".to_vec();
            decimal(&mut out, number, width);
            assert_eq!(out, format!("x{text}").into_bytes(), "{number} {width}");
        }
    }
}
