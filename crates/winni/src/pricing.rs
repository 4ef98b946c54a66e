//! What tokens cost, from a dated table that is data.
//!
//! A model that the table does not know, or a request beyond the size that a price is known for, has no cost: never a
//! guess.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;
use wire::assembled::Usage;

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let table: Table = toml::from_str(include_str!("prices.toml")).unwrap_or_default();
    tracing::debug!(as_of = table.as_of, models = table.models.len(), "price table");
    table
});

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Table {
    /// The day on which the prices were read.
    as_of: String,
    models: BTreeMap<String, Price>,
}

/// US dollars per million tokens.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Price {
    input: f64,
    output: f64,
    cache_read: Option<f64>,
    cache_write_5m: Option<f64>,
    cache_write_1h: Option<f64>,
    /// More input tokens than this (cached ones included) cost something else.
    up_to_input_tokens: Option<u64>,
}

/// Cost in billionths of a US dollar, or `None` if it is not known.
pub(crate) fn cost_nano(model: &str, usage: &Usage) -> Option<i64> {
    let price = lookup(model)?;
    let (input, output) = (usage.input_tokens?, usage.output_tokens?);
    let read = usage.cache_read_tokens.unwrap_or(0);
    let write = usage.cache_write_tokens.unwrap_or(0);
    let write_1h = usage.cache_write_1h_tokens.unwrap_or(0).min(write);
    if price.up_to_input_tokens.is_some_and(|limit| input + read + write > limit) {
        return None;
    }
    let parts = [
        (input, Some(price.input)),
        (output, Some(price.output)),
        (read, price.cache_read),
        (write - write_1h, price.cache_write_5m),
        (write_1h, price.cache_write_1h),
    ];
    let micro = parts
        .into_iter()
        .filter(|(tokens, _)| *tokens > 0)
        .try_fold(0.0, |sum, (tokens, price)| price.map(|price| sum + tokens as f64 * price))?;
    Some((micro * 1_000.0).round() as i64)
}

/// A model is listed by its name without the date that providers append (`-20250929`, `-2024-08-06`, `-latest`).
fn lookup(model: &str) -> Option<&'static Price> {
    let undated = ["-00000000", "-0000-00-00", "-latest"].into_iter().find_map(|shape| {
        let (name, suffix) = model.split_at_checked(model.len().checked_sub(shape.len())?)?;
        let suffix: String = suffix.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        (suffix == shape).then_some(name)
    });
    TABLE.models.get(model).or_else(|| TABLE.models.get(undated?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(input: u64, output: u64, read: u64, write: u64) -> Usage {
        Usage {
            input_tokens: Some(input),
            output_tokens: Some(output),
            cache_read_tokens: Some(read),
            cache_write_tokens: Some(write),
            ..Usage::default()
        }
    }

    #[test]
    fn the_table_parses_and_says_its_date() {
        let table: Table = toml::from_str(include_str!("prices.toml")).unwrap();
        assert!(!table.models.is_empty());
        assert!(table.as_of.starts_with("20"));
    }

    #[test]
    fn each_kind_of_token_has_its_price() {
        // 0.30 + 15 + 0.015 + 0.15 dollars.
        let tokens = usage(100_000, 1_000_000, 50_000, 40_000);
        assert_eq!(cost_nano("claude-sonnet-4-5-20250929", &tokens), Some(15_465_000_000));
        assert_eq!(cost_nano("gpt-4o-2024-08-06", &usage(600_000, 0, 400_000, 0)), Some(2_000_000_000));
    }

    #[test]
    fn what_is_not_known_has_no_cost() {
        assert_eq!(cost_nano("claude-opus-99", &usage(1, 1, 0, 0)), None);
        assert_eq!(cost_nano("claude-sonnet-4-5", &usage(300_000, 1, 0, 0)), None, "beyond the known tier");
        assert_eq!(cost_nano("claude-sonnet-4-5", &Usage::default()), None);
    }
}
