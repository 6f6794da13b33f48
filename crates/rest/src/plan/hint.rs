//! "Perhaps you meant": the names nearest to one that does not exist. Alike are names that share runs of two or three
//! letters; the best of those are ranked by how many letters would have to change.
//! As in PostgREST, names are offered that the role may not use.

use std::collections::HashMap;
use std::sync::Arc;

use crate::identifier::QualifiedIdentifier;
use crate::schema_cache::{Routine, SchemaCache};

/// For names of tables and functions, which not everybody needs to be told.
const MIN_SCORE: f64 = 0.75;
/// For names of things whose owner is known already.
const MIN_SCORE_WITHIN: f64 = 0.33;
/// A schema with more relations than this is not searched.
const MAX_TABLES: usize = 500;
/// Names whose letters are compared.
const MAX_RANKED: usize = 50;

pub(super) fn for_table(cache: &SchemaCache, schema: &str, name: &str) -> Option<String> {
    let names: Vec<&str> = cache.tables.keys().filter(|qi| *qi.schema == *schema).map(|qi| &*qi.name).collect();
    if names.len() >= MAX_TABLES {
        return None;
    }
    let best = nearest(names, name, MIN_SCORE)?.1;
    Some(format!("Perhaps you meant the table '{schema}.{best}'"))
}

/// Suggests another origin when that has no relationships at all, otherwise another target.
pub(super) fn for_relationship(cache: &SchemaCache, schema: &Arc<str>, origin: &str, target: &str) -> Option<String> {
    let origin_table = QualifiedIdentifier { schema: schema.clone(), name: origin.into() };
    let (wrong, right) = match cache.relationships.get(&(origin_table, schema.clone())) {
        Some(relationships) => {
            let names = relationships.iter().map(|r| &*r.foreign_table().name).collect();
            let (score, best) = nearest(names, target, MIN_SCORE_WITHIN)?;
            // The target is there: it is the hint that fits nothing.
            if score >= 1.0 {
                return None;
            }
            (target, best)
        }
        None => {
            let names =
                cache.relationships.keys().filter(|(_, to)| to == schema).map(|(table, _)| &*table.name).collect();
            (origin, nearest(names, origin, MIN_SCORE_WITHIN)?.1)
        }
    };
    Some(format!("Perhaps you meant '{right}' instead of '{wrong}'."))
}

/// Suggests another function, or, when there are functions of that name, other parameters.
pub(super) fn for_routine(
    cache: &SchemaCache,
    schema: &str,
    name: &str,
    arguments: &[String],
    overloads: &[Arc<Routine>],
) -> Option<String> {
    let list = |names: &mut dyn Iterator<Item = &str>| {
        let mut names: Vec<&str> = names.collect();
        names.sort_unstable();
        format!("({})", names.join(", "))
    };
    let best = if overloads.is_empty() {
        let names = cache.routines.keys().filter(|qi| *qi.schema == *schema).map(|qi| &*qi.name).collect();
        nearest(names, name, MIN_SCORE)?.1.to_owned()
    } else {
        let params: Vec<String> =
            overloads.iter().map(|routine| list(&mut routine.params.iter().map(|p| &*p.name))).collect();
        let given = list(&mut arguments.iter().map(String::as_str));
        let (_, best) = nearest(params.iter().map(String::as_str).collect(), &given, MIN_SCORE_WITHIN)?;
        format!("{name}{best}")
    };
    Some(format!("Perhaps you meant to call the function {schema}.{best}"))
}

/// The name most like `wanted` with its score from 0 to 1, if that is at least `min_score`.
fn nearest<'a>(mut names: Vec<&'a str>, wanted: &str, min_score: f64) -> Option<(f64, &'a str)> {
    let wanted = wanted.to_lowercase();
    // As many letters have to change as the lengths differ by, so nothing is like a name that is too long. Otherwise the
    // time would be in proportion to the length of the name, which is the client's, times all names.
    let longest = names.iter().map(|name| name.len()).max()?;
    #[expect(clippy::cast_precision_loss, reason = "names are short")]
    if (longest as f64) < min_score * wanted.chars().count() as f64 {
        return None;
    }
    // The catalog has no order; an answer should have one.
    names.sort_unstable();
    names.dedup();
    if let Some(same) = names.iter().find(|name| name.to_lowercase() == wanted) {
        return Some((1.0, same));
    }
    [3, 2].into_iter().find_map(|size| {
        let grams = Grams::of(&wanted, size);
        let mut alike: Vec<(f64, &str)> = names
            .iter()
            .filter_map(|name| {
                let score = grams.likeness(&Grams::of(&name.to_lowercase(), size));
                (score > 0.0).then_some((score, *name))
            })
            .collect();
        alike.sort_by(|a, b| b.0.total_cmp(&a.0));
        alike
            .into_iter()
            .take(MAX_RANKED)
            .map(|(_, name)| (letters_in_common(&wanted, &name.to_lowercase()), name))
            .filter(|(score, _)| *score >= min_score)
            .reduce(|best, next| if next.0 > best.0 { next } else { best })
    })
}

/// How often each run of letters occurs.
struct Grams(HashMap<Vec<char>, f64>);

impl Grams {
    fn of(text: &str, size: usize) -> Self {
        let letters = text.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | ','));
        let mut padded: Vec<char> = std::iter::once('-').chain(letters).chain(['-']).collect();
        while padded.len() < size {
            padded.push('-');
        }
        let mut counts = HashMap::new();
        for run in padded.windows(size) {
            *counts.entry(run.to_vec()).or_insert(0.0) += 1.0;
        }
        Self(counts)
    }

    /// Cosine of the two.
    fn likeness(&self, other: &Self) -> f64 {
        let length = |grams: &Self| grams.0.values().map(|n| n * n).sum::<f64>().sqrt();
        let product: f64 = self.0.iter().filter_map(|(run, n)| Some(n * other.0.get(run)?)).sum();
        product / (length(self) * length(other))
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
        assert_eq!(nearest(tables(), "project", MIN_SCORE).map(|n| n.1), Some("projects"));
        assert_eq!(nearest(tables(), "garlic", MIN_SCORE), None);
        assert_eq!(nearest(vec!["(name)"], "(nam)", MIN_SCORE_WITHIN).map(|n| n.1), Some("(name)"));
        assert_eq!(
            nearest(vec!["unnamed_text_param"], "unnamed_int_param", MIN_SCORE).map(|n| n.1),
            Some("unnamed_text_param")
        );
        assert_eq!(nearest(tables(), "Clients", MIN_SCORE), Some((1.0, "clients")));
    }
}
