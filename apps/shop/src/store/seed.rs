//! The catalogue that a new database begins with.
//!
//! It is one of the migrations, so exactly one instance writes it, once. The texts are in `seed.txt`, one
//! product in four lines; that file is part of the program and checked by a test.

use rusqlite::{Transaction, params};

use super::now_ms;
use crate::error::ShopError;

const TEXT: &str = include_str!("seed.txt");
/// Enough for any demonstration.
const PLENTY: i64 = 1_000_000;

struct Seed<'a> {
    name: &'a str,
    category: &'a str,
    shape: &'a str,
    hue: i64,
    price_cents: i64,
    stock: i64,
    summary: &'a str,
    description: &'a str,
}

pub(super) fn fill(transaction: &Transaction<'_>) -> Result<(), ShopError> {
    let mut product = transaction.prepare(
        "INSERT INTO products (name, category, summary, description, price_cents, shape, hue, created_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) RETURNING id",
    )?;
    let mut stock = transaction.prepare("INSERT INTO stock (product_id, units) VALUES (?1, ?2)")?;
    for seed in seeds() {
        let id: i64 = product.query_row(
            params![
                seed.name,
                seed.category,
                seed.summary,
                seed.description,
                seed.price_cents,
                seed.shape,
                seed.hue,
                now_ms()
            ],
            |row| row.get(0),
        )?;
        stock.execute(params![id, seed.stock])?;
    }
    Ok(())
}

/// A product is `name`, `category shape hue cents [stock]`, summary, description; an empty line ends it.
fn seeds() -> impl Iterator<Item = Seed<'static>> {
    TEXT.trim().split("\n\n").map(|block| {
        let mut lines = block.lines();
        let mut line = || lines.next().expect("the seed text has four lines for each product");
        let name = line();
        let mut facts = line().split_ascii_whitespace();
        let mut word = || facts.next();
        let (category, shape) = (word().expect("a category"), word().expect("a picture"));
        let mut number = || word().map(|word| word.parse().expect("a number in the seed text"));
        Seed {
            name,
            category,
            shape,
            hue: number().expect("a colour"),
            price_cents: number().expect("a price"),
            stock: number().unwrap_or(PLENTY),
            summary: line(),
            description: line(),
        }
    })
}

#[cfg(test)]
mod tests {
    use crate::domain::{CATEGORIES, Cents, NewProduct};

    #[test]
    fn every_seed_could_have_been_published() {
        let mut names = std::collections::HashSet::new();
        for seed in super::seeds() {
            let texts = (seed.summary, seed.description);
            NewProduct::new(seed.name, seed.category, texts, Cents(seed.price_cents), seed.stock, seed.shape)
                .unwrap_or_else(|error| panic!("{}: {error}", seed.name));
            assert!(names.insert(seed.name), "{} twice", seed.name);
        }
        assert!(names.len() >= 60, "only {} products", names.len());
        for category in &CATEGORIES {
            assert!(super::seeds().filter(|seed| seed.category == category.slug).count() >= 9, "{}", category.slug);
        }
    }
}
