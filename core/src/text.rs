//! Numbers as text, straight into bytes: on the way of every publish, where `fmt` takes several times as long.

/// Appends `number` in decimal.
pub(crate) fn decimal(out: &mut Vec<u8>, mut number: u64) {
    // As many as the largest number has.
    let mut digits = [b'0'; 20];
    let mut used = 0;
    for digit in digits.iter_mut().rev() {
        // Below 10.
        *digit += u8::try_from(number % 10).unwrap_or_default();
        number /= 10;
        used += 1;
        if number == 0 {
            break;
        }
    }
    let unused = digits.len() - used;
    out.extend_from_slice(digits.get(unused..).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_fmt_has_them() {
        for number in [0, 7, 9, 10, 100, 1_234_567_890, u64::MAX] {
            let mut out = b"x".to_vec();
            decimal(&mut out, number);
            assert_eq!(out, format!("x{number}").into_bytes());
        }
    }
}
