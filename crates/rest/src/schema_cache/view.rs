//! Which columns of views show which columns of tables, read from the parsed query PostgreSQL keeps of each view.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::identifier::QualifiedIdentifier;

/// A view and the origin of each of its columns.
pub(super) struct View {
    pub(super) name: QualifiedIdentifier,
    /// Names of the columns by their number.
    pub(super) columns: HashMap<i32, Arc<str>>,
    pub(super) origins: Vec<Origin>,
}

/// Column `position` of a view is column `column` of `relation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) position: i32,
    pub(super) relation: u32,
    pub(super) column: i32,
}

/// Columns of a view by the table column they show: `(table, column) -> view columns`.
pub(super) type Shown = BTreeMap<(u32, i32), Vec<Arc<str>>>;

/// Views on views deeper than this are not followed; it also ends cycles, which a rule can make.
const MAX_DEPTH: usize = 32;

/// What `view` shows, views beneath it resolved.
pub(super) fn shown_columns(view: &View, views: &HashMap<u32, View>) -> Shown {
    let mut shown = Shown::new();
    for origin in &view.origins {
        let Some(name) = view.columns.get(&origin.position) else { continue };
        // A column of a view can stand for one column only, so the way down is a path.
        let (mut relation, mut column) = (origin.relation, origin.column);
        for _ in 0..MAX_DEPTH {
            let Some(below) = views.get(&relation) else { break };
            let Some(next) = below.origins.iter().find(|o| o.position == column) else { break };
            (relation, column) = (next.relation, next.column);
        }
        shown.entry((relation, column)).or_default().push(name.clone());
    }
    shown
}

/// The origins of a view's columns, from the text of its parsed query (`pg_rewrite.ev_action`).
///
/// The text is nested nodes, `{NODE :field value ...}`, and lists, `(...)`; a backslash escapes the next character.
/// The outermost node is in a list; its `:targetList` is the list of the view's columns.
pub(super) fn origins(query: &str) -> Vec<Origin> {
    const QUERY_DEPTH: usize = 2;
    const ENTRY_DEPTH: usize = 4;
    let bytes = query.as_bytes();
    let mut origins = Vec::new();
    let mut depth = 0usize;
    let mut in_targets = false;
    let (mut position, mut relation, mut column) = (0, 0, 0);
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 1,
            b'{' | b'(' => {
                depth += 1;
                if in_targets && depth == ENTRY_DEPTH {
                    (position, relation, column) = (0, 0, 0);
                }
            }
            b'}' | b')' => {
                if in_targets && depth == ENTRY_DEPTH && relation != 0 && column > 0 {
                    origins.push(Origin { position, relation, column });
                }
                depth = depth.saturating_sub(1);
            }
            b':' if depth == QUERY_DEPTH => in_targets = bytes[at..].starts_with(b":targetList "),
            b':' if in_targets && depth == ENTRY_DEPTH => {
                if let Some(number) = field(bytes, at, b":resno ") {
                    position = i32::try_from(number).unwrap_or(0);
                } else if let Some(number) = field(bytes, at, b":resorigtbl ") {
                    relation = number;
                } else if let Some(number) = field(bytes, at, b":resorigcol ") {
                    column = i32::try_from(number).unwrap_or(0);
                }
            }
            _ => {}
        }
        at += 1;
    }
    origins
}

/// The number after the field `name` at `at`.
fn field(bytes: &[u8], at: usize, name: &[u8]) -> Option<u32> {
    let rest = bytes[at..].strip_prefix(name)?;
    let end = rest.iter().position(|b| !b.is_ascii_digit()).unwrap_or(rest.len());
    std::str::from_utf8(&rest[..end]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_outermost_target_list_counts() {
        let query = r"({QUERY :rtable ({RANGETBLENTRY :subquery {QUERY :targetList ({TARGETENTRY :expr {VAR :x 1} :resno 1 :resorigtbl 7 :resorigcol 7})}}) :jointree {FROMEXPR} :targetList ({TARGETENTRY :expr {SUBLINK :s {QUERY :targetList ({TARGETENTRY :resno 9 :resorigtbl 9 :resorigcol 9})}} :resno 1 :resname a\} :resorigtbl 0 :resorigcol 0} {TARGETENTRY :expr {VAR} :resno 2 :resname b :resorigtbl 123 :resorigcol 4 :resjunk false}) :override 0 :returningList <>})";
        assert_eq!(origins(query), [Origin { position: 2, relation: 123, column: 4 }]);
    }

    #[test]
    fn a_view_on_a_view_leads_to_the_table() {
        let view = |name: &str, relation| View {
            name: QualifiedIdentifier::new("s", name),
            columns: [(1, Arc::from("c"))].into(),
            origins: vec![Origin { position: 1, relation, column: 1 }],
        };
        let views: HashMap<u32, View> = [(1, view("upper", 2)), (2, view("lower", 3))].into();
        assert_eq!(shown_columns(&views[&1], &views), Shown::from([((3, 1), vec![Arc::from("c")])]));
        // A cycle ends.
        let cycle: HashMap<u32, View> = [(1, view("a", 2)), (2, view("b", 1))].into();
        assert_eq!(shown_columns(&cycle[&1], &cycle).len(), 1);
    }
}
