//! "Perhaps you meant": the names nearest to one that does not exist. Alike are names that share runs of two or three
//! letters; the best of those are ranked by how many letters would have to change.
//!
//! All that come into question are given, best first: who may be told of which is decided elsewhere.

use std::sync::Arc;

use crate::error::{Subject, Suggestion};
use crate::identifier::QualifiedIdentifier;
use crate::schema_cache::{Relationship, Routine, SchemaCache};

/// For names of tables and functions, which not everybody needs to be told.
const MIN_SCORE: f64 = 0.75;
/// For names of things whose owner is known already.
const MIN_SCORE_WITHIN: f64 = 0.33;
/// A schema with more relations than this is not searched.
const MAX_TABLES: usize = 500;
/// Names whose letters are compared.
const MAX_RANKED: usize = 50;

pub(super) fn for_table(cache: &SchemaCache, schema: &str, name: &str) -> Vec<Suggestion> {
    let tables: Vec<&QualifiedIdentifier> = cache.tables.keys().filter(|qi| *qi.schema == *schema).collect();
    if tables.len() >= MAX_TABLES {
        return Vec::new();
    }
    nearest(tables.into_iter().map(|qi| &*qi.name).collect(), name, MIN_SCORE)
        .into_iter()
        .map(|(_, best)| Suggestion {
            about: Subject::Relation(QualifiedIdentifier::new(schema, best)),
            text: format!("Perhaps you meant the table '{schema}.{best}'"),
        })
        .collect()
}

/// Suggests another origin when that has no relationships at all, otherwise another target.
pub(super) fn for_relationship(cache: &SchemaCache, schema: &Arc<str>, origin: &str, target: &str) -> Vec<Suggestion> {
    let origin_table = QualifiedIdentifier { schema: schema.clone(), name: origin.into() };
    let suggestion = |about: &QualifiedIdentifier, wrong: &str, right: &str| Suggestion {
        about: Subject::Relation(about.clone()),
        text: format!("Perhaps you meant '{right}' instead of '{wrong}'."),
    };
    match cache.relationships.get(&(origin_table, schema.clone())) {
        Some(relationships) => {
            let tables: Vec<&QualifiedIdentifier> = relationships.iter().map(Relationship::foreign_table).collect();
            let found = nearest(tables.iter().map(|table| &*table.name).collect(), target, MIN_SCORE_WITHIN);
            // The target is there: it is the hint that fits nothing.
            if found.first().is_some_and(|(score, _)| *score >= 1.0) {
                return Vec::new();
            }
            let table = |name: &str| tables.iter().find(|table| *table.name == *name);
            found.into_iter().filter_map(|(_, best)| Some(suggestion(table(best)?, target, best))).collect()
        }
        None => {
            let origins: Vec<&QualifiedIdentifier> =
                cache.relationships.keys().filter(|(_, to)| to == schema).map(|(table, _)| table).collect();
            let found = nearest(origins.iter().map(|table| &*table.name).collect(), origin, MIN_SCORE_WITHIN);
            let table = |name: &str| origins.iter().find(|table| *table.name == *name);
            found.into_iter().filter_map(|(_, best)| Some(suggestion(table(best)?, origin, best))).collect()
        }
    }
}

/// Suggests another function, or, when there are functions of that name, other parameters.
pub(super) fn for_routine(
    cache: &SchemaCache,
    schema: &str,
    name: &str,
    arguments: &[String],
    overloads: &[Arc<Routine>],
) -> Vec<Suggestion> {
    let list = |names: &mut dyn Iterator<Item = &str>| {
        let mut names: Vec<&str> = names.collect();
        names.sort_unstable();
        format!("({})", names.join(", "))
    };
    let suggestion = |oids: Vec<u32>, best: &str| Suggestion {
        about: Subject::Routines(oids),
        text: format!("Perhaps you meant to call the function {schema}.{best}"),
    };
    if overloads.is_empty() {
        let names = cache.routines.keys().filter(|qi| *qi.schema == *schema).map(|qi| &*qi.name).collect();
        let oids = |name: &str| {
            let found = cache.routines.get(&QualifiedIdentifier::new(schema, name));
            found.into_iter().flatten().map(|routine| routine.oid).collect()
        };
        let found = nearest(names, name, MIN_SCORE);
        return found.into_iter().map(|(_, best)| suggestion(oids(best), best)).collect();
    }
    let params: Vec<(String, u32)> =
        overloads.iter().map(|routine| (list(&mut routine.params.iter().map(|p| &*p.name)), routine.oid)).collect();
    let given = list(&mut arguments.iter().map(String::as_str));
    let oids = |list: &str| params.iter().filter(|(own, _)| own == list).map(|(_, oid)| *oid).collect();
    let found = nearest(params.iter().map(|(list, _)| list.as_str()).collect(), &given, MIN_SCORE_WITHIN);
    found.into_iter().map(|(_, best)| suggestion(oids(best), &format!("{name}{best}"))).collect()
}

/// The names like `wanted` with their scores from `min_score` to 1, best first.
fn nearest<'a>(mut names: Vec<&'a str>, wanted: &str, min_score: f64) -> Vec<(f64, &'a str)> {
    let wanted = wanted.to_lowercase();
    // As many letters have to change as the lengths differ by, so nothing is like a name that is too long. Otherwise the
    // time would be in proportion to the length of the name, which is the client's, times all names.
    let longest = names.iter().map(|name| name.len()).max().unwrap_or(0);
    #[expect(clippy::cast_precision_loss, reason = "names are short")]
    if (longest as f64) < min_score * wanted.chars().count() as f64 {
        return Vec::new();
    }
    // The catalog has no order; an answer should have one.
    names.sort_unstable();
    names.dedup();
    let lower: Vec<String> = names.iter().map(|name| name.to_lowercase()).collect();
    let mut found: Vec<(f64, &str)> = Vec::new();
    found.extend(names.iter().zip(&lower).find(|(_, lower)| **lower == wanted).map(|(name, _)| (1.0, *name)));
    // Names that share runs of three letters come before those that share only two.
    for size in [3, 2] {
        let grams = Grams::of(&wanted, size);
        let mut alike: Vec<(f64, usize)> = lower
            .iter()
            .enumerate()
            .map(|(index, name)| (grams.likeness(&Grams::of(name, size)), index))
            .filter(|(score, _)| *score > 0.0)
            .collect();
        alike.sort_by(|a, b| b.0.total_cmp(&a.0));
        alike.truncate(MAX_RANKED);
        let mut ranked: Vec<(f64, &str)> = alike
            .into_iter()
            .map(|(_, index)| (letters_in_common(&wanted, &lower[index]), names[index]))
            .filter(|(score, name)| *score >= min_score && found.iter().all(|(_, known)| known != name))
            .collect();
        ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
        found.extend(ranked);
    }
    found
}

/// Runs of letters, each packed into a number, sorted; one that occurs often is there as often.
struct Grams(Vec<u64>);

impl Grams {
    /// `size` is at most 3: a letter takes 21 bits.
    fn of(text: &str, size: usize) -> Self {
        let letters = text.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | ','));
        let mut padded: Vec<u64> = std::iter::once('-').chain(letters).chain(['-']).map(u64::from).collect();
        while padded.len() < size {
            padded.push(u64::from('-'));
        }
        let mut runs: Vec<u64> =
            padded.windows(size).map(|run| run.iter().fold(0, |packed, letter| packed << 21 | letter)).collect();
        runs.sort_unstable();
        Self(runs)
    }

    /// Each run with how often it occurs.
    fn counts(&self) -> impl Iterator<Item = (u64, f64)> {
        self.0.chunk_by(|a, b| a == b).map(|same| {
            #[expect(clippy::cast_precision_loss, reason = "names are short")]
            let count = same.len() as f64;
            (same[0], count)
        })
    }

    /// Cosine of the two.
    fn likeness(&self, other: &Self) -> f64 {
        let length = |grams: &Self| grams.counts().map(|(_, n)| n * n).sum::<f64>().sqrt();
        let (mut ours, mut theirs) = (self.counts().peekable(), other.counts().peekable());
        let mut product = 0.0;
        while let (Some((a, n)), Some((b, m))) = (ours.peek().copied(), theirs.peek().copied()) {
            match a.cmp(&b) {
                std::cmp::Ordering::Less => drop(ours.next()),
                std::cmp::Ordering::Greater => drop(theirs.next()),
                std::cmp::Ordering::Equal => {
                    product += n * m;
                    ours.next();
                    theirs.next();
                }
            }
        }
        if product == 0.0 { 0.0 } else { product / (length(self) * length(other)) }
    }
}

/// 1 less the share of letters that have to be changed, added or removed (Levenshtein).
fn letters_in_common(a: &str, b: &str) -> f64 {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let longest = a.len().max(b.len());
    if longest == 0 {
        return 1.0;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let change = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "names are short")]
    let share = row[b.len()] as f64 / longest as f64;
    1.0 - share
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_nearby_are_found_and_others_are_not() {
        let tables = || vec!["car_models", "car_model_sales", "clients", "projects"];
        let best = |names: Vec<&'static str>, wanted, min_score| nearest(names, wanted, min_score).first().copied();
        assert_eq!(best(tables(), "project", MIN_SCORE).map(|n| n.1), Some("projects"));
        assert_eq!(best(tables(), "garlic", MIN_SCORE), None);
        assert_eq!(best(vec!["(name)"], "(nam)", MIN_SCORE_WITHIN).map(|n| n.1), Some("(name)"));
        assert_eq!(
            best(vec!["unnamed_text_param"], "unnamed_int_param", MIN_SCORE).map(|n| n.1),
            Some("unnamed_text_param")
        );
        assert_eq!(best(tables(), "Clients", MIN_SCORE), Some((1.0, "clients")));
        let all: Vec<&str> = nearest(tables(), "car_model", 0.5).into_iter().map(|n| n.1).collect();
        assert_eq!(all, ["car_models", "car_model_sales"], "the next best are there too");
    }
}
