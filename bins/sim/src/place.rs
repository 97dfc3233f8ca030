//! Where in a plan's text a field is.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

/// The line at which `field` begins, or the last part of its path that is there. Lines count from 1.
pub(crate) fn line(text: &str, field: &str) -> usize {
    let mut at: &RawValue = match serde_json::from_str(text) {
        Ok(all) => all,
        Err(error) => return error.line(),
    };
    for part in field.split(['.', '[']) {
        match inner(at, part.trim_end_matches(']')) {
            Some(part) => at = part,
            None => break,
        }
    }
    // Raw values are parts of the text.
    let before = at.get().as_ptr().addr() - text.as_ptr().addr();
    let lines = text.bytes().take(before).filter(|byte| *byte == b'\n');
    1 + lines.count()
}

fn inner<'t>(value: &'t RawValue, part: &str) -> Option<&'t RawValue> {
    if let Ok(number) = part.parse::<usize>() {
        let list: Vec<&RawValue> = serde_json::from_str(value.get()).ok()?;
        return list.get(number).copied();
    }
    let fields: BTreeMap<String, &RawValue> = serde_json::from_str(value.get()).ok()?;
    fields.get(part).copied()
}

#[cfg(test)]
mod tests {
    use super::line;

    #[test]
    fn a_field_is_found_as_far_as_its_path_goes() {
        let text = "\n{\"a\": 1,\n\"b\": [\n{\"c\": 2},\n{\n\"c\": 3}]}";
        let cases = [
            ("a", 2),
            ("b", 3),
            ("b[0].c", 4),
            ("b[1]", 5),
            ("b[1].c", 6),
            ("b[1].d.e", 5),
            ("b[2]", 3),
            ("x", 2),
        ];
        for (field, expected) in cases {
            assert_eq!(line(text, field), expected, "{field}");
        }
    }
}
