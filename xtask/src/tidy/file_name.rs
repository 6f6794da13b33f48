//! Names that say nothing.

use super::Violation;
use super::tree::TextFile;

const EMPTY_NAMES: [&str; 9] =
    ["util", "utils", "helper", "helpers", "common", "misc", "manager", "shared_code", "stuff"];

pub(super) fn check(file: &TextFile, violations: &mut Vec<Violation>) {
    let mut parts = file.path.split('/').map(|part| part.split('.').next().unwrap_or(part));
    if let Some(name) = parts.find(|part| EMPTY_NAMES.contains(part)) {
        let what = format!("`{name}` is no name for what is in it: call it after the concept or the operation");
        violations.push(Violation { file: file.path.clone(), line: 0, what });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grab_bags_are_refused() {
        let check = |path: &str, expected: usize| {
            let mut violations = Vec::new();
            super::check(&TextFile { path: path.into(), text: String::new() }, &mut violations);
            assert_eq!(violations.len(), expected, "{path}");
        };
        check("crates/rest/src/utils.rs", 1);
        check("crates/common/src/lib.rs", 1);
        check("crates/rest/src/range_query.rs", 0);
    }
}
