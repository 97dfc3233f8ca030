//! How long deliveries took: counted in buckets that are so narrow that nobody sees them, in a memory that does not grow.

/// A power of two has so many buckets: a bucket is less than 0.8 % of what it holds.
const STEPS: u64 = 1 << STEP_BITS;
const STEP_BITS: u32 = 7;
/// Of every 64-bit number.
const BUCKETS: usize = (64 - STEP_BITS as usize + 1) << STEP_BITS;

/// Nanoseconds.
pub(crate) struct Latency {
    buckets: Vec<u64>,
    count: u64,
    max: u64,
}

impl Latency {
    pub(crate) fn new() -> Self {
        Self {
            buckets: vec![0; BUCKETS],
            count: 0,
            max: 0,
        }
    }

    pub(crate) fn record(&mut self, nanoseconds: u64) {
        if let Some(bucket) = self.buckets.get_mut(bucket(nanoseconds)) {
            *bucket += 1;
        }
        self.count += 1;
        self.max = self.max.max(nanoseconds);
    }

    pub(crate) const fn max(&self) -> u64 {
        self.max
    }

    /// The same of a tail, where ten or more are above it: of fewer it says no more than the highest does.
    pub(crate) fn tail(&self, of_thousand: u64) -> Option<u64> {
        let above = u128::from(self.count) * u128::from(1_000 - of_thousand);
        (above >= 10 * 1_000).then(|| self.permille(of_thousand))
    }

    /// What so many of 1,000 were not above; 0 where there was none.
    pub(crate) fn permille(&self, of_thousand: u64) -> u64 {
        let wanted = (u128::from(self.count) * u128::from(of_thousand)).div_ceil(1_000);
        let mut before = 0;
        for (number, count) in self.buckets.iter().enumerate() {
            before += u128::from(*count);
            if before >= wanted && before > 0 {
                return highest(number).min(self.max);
            }
        }
        self.max
    }
}

fn bucket(value: u64) -> usize {
    // The power of two above the first ones, which have a bucket each.
    let power = (u64::BITS - value.leading_zeros()).saturating_sub(STEP_BITS + 1);
    let at = u64::from(power) * STEPS + (value >> power);
    usize::try_from(at).unwrap_or(usize::MAX)
}

/// The highest value of a bucket.
fn highest(number: usize) -> u64 {
    let number = number as u64;
    let power = (number / STEPS).saturating_sub(1);
    let first = u128::from(number - power * STEPS) << power;
    u64::try_from(first + (1 << power) - 1).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_is_in_the_bucket_whose_bounds_it_is_in() {
        let mut values: Vec<u64> = (0..2_000).collect();
        for bit in 7..64 {
            let power = 1_u64 << bit;
            values.extend([power - 1, power, power + 1, power | power >> 1]);
        }
        values.push(u64::MAX);
        for value in values {
            let at = bucket(value);
            assert!(at < BUCKETS, "{value}");
            assert!(value <= highest(at), "{value}");
            assert!(at == 0 || highest(at - 1) < value, "{value}");
            let width = highest(at) - if at == 0 { 0 } else { highest(at - 1) };
            assert!(width <= 1.max(value / 64), "{value}: {width}");
        }
    }

    #[test]
    fn percentiles_are_those_of_the_sorted_values() {
        let mut latency = Latency::new();
        assert_eq!((latency.permille(500), latency.max()), (0, 0));
        // The middle of three is the second.
        let mut three = Latency::new();
        for value in [3, 1, 2] {
            three.record(value);
        }
        assert_eq!(
            [
                three.permille(334),
                three.permille(500),
                three.permille(999)
            ],
            [2, 2, 3]
        );
        // In an order that is not theirs.
        for n in 0..10_000_u64 {
            latency.record((n * 7_919 % 10_000 + 1) * 1_000);
        }
        for (permille, exact) in [
            (0, 1),
            (500, 5_000),
            (990, 9_900),
            (999, 9_990),
            (1_000, 10_000),
        ] {
            let (got, exact) = (latency.permille(permille), exact * 1_000);
            assert!(
                got >= exact && got <= exact + exact / 100,
                "{permille}: {got}, {exact}"
            );
        }
        assert_eq!(latency.max(), 10_000_000);
    }

    #[test]
    fn a_tail_of_too_few_is_none() {
        let mut latency = Latency::new();
        for (count, p99, p99_9) in [
            (0, false, false),
            (999, false, false),
            (1_000, true, false),
            (9_999, true, false),
            (10_000, true, true),
        ] {
            while latency.count < count {
                latency.record(5);
            }
            let told = [latency.tail(990), latency.tail(999)].map(|it| it.is_some());
            assert_eq!(told, [p99, p99_9], "{count}");
        }
    }
}
