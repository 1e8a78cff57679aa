//! Products: listing, searching, publishing. Every list is two statements, whatever its length.

use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};

use super::{Store, now_ms};
use crate::domain::{Cents, NewProduct, PAGE_SIZE, Product, ProductId, ProductPage, ProductQuery, Sort};
use crate::error::ShopError;

const COLUMNS: &str = "p.id, p.name, p.category, p.summary, p.description, p.price_cents, s.units, p.shape, p.hue";
/// Words of a search beyond these are ignored.
const MAX_WORDS: usize = 8;

impl Store {
    /// One page of the products that match `query`.
    pub async fn product_page(&self, query: ProductQuery) -> Result<ProductPage, ShopError> {
        self.read(move |connection| page(connection, &query)).await
    }

    /// The product numbered `id`.
    pub async fn product(&self, id: ProductId) -> Result<Product, ShopError> {
        self.read(move |connection| find(connection, id)).await
    }

    /// The product numbered `id`, and up to four others of its department.
    pub async fn product_with_related(&self, id: ProductId) -> Result<(Product, Vec<Product>), ShopError> {
        self.read(move |connection| {
            let product = find(connection, id)?;
            let sql = format!(
                "SELECT {COLUMNS} FROM products p JOIN stock s ON s.product_id = p.id
                 WHERE p.category = ?1 AND p.id <> ?2 ORDER BY abs(p.id - ?2), p.id LIMIT 4"
            );
            let mut statement = connection.prepare_cached(&sql)?;
            let rows = statement.query_map(params![product.category, id], read_product)?;
            let related = rows.collect::<Result<_, _>>()?;
            Ok((product, related))
        })
        .await
    }

    /// The products for the front page: two of each department, and the four newest.
    pub async fn front_page(&self) -> Result<(Vec<Product>, Vec<Product>), ShopError> {
        self.read(|connection| {
            let featured = format!(
                "SELECT {COLUMNS} FROM (SELECT *, row_number() OVER (PARTITION BY category ORDER BY id) AS place
                 FROM products) p JOIN stock s ON s.product_id = p.id WHERE p.place <= 2 ORDER BY p.place, p.id"
            );
            let newest = format!(
                "SELECT {COLUMNS} FROM products p JOIN stock s ON s.product_id = p.id ORDER BY p.id DESC LIMIT 4"
            );
            let list = |sql: &str| -> Result<Vec<Product>, ShopError> {
                let mut statement = connection.prepare_cached(sql)?;
                let rows = statement.query_map([], read_product)?;
                Ok(rows.collect::<Result<_, _>>()?)
            };
            Ok((list(&featured)?, list(&newest)?))
        })
        .await
    }

    /// Publishes a product and returns it as it is shown.
    pub async fn publish(&self, new: NewProduct) -> Result<Product, ShopError> {
        self.write(move |transaction| {
            transaction
                .prepare_cached(
                    "INSERT INTO products (name, category, summary, description, price_cents, shape, hue, created_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                )?
                .execute(params![
                    new.name,
                    new.category,
                    new.summary,
                    new.description,
                    new.price.0,
                    new.shape,
                    new.hue,
                    now_ms()
                ])?;
            let id = transaction.last_insert_rowid();
            transaction.execute("INSERT INTO stock (product_id, units) VALUES (?1, ?2)", params![id, new.stock])?;
            find(transaction, id)
        })
        .await
    }
}

fn find(connection: &Connection, id: ProductId) -> Result<Product, ShopError> {
    let sql = format!("SELECT {COLUMNS} FROM products p JOIN stock s ON s.product_id = p.id WHERE p.id = ?1");
    let mut statement = connection.prepare_cached(&sql)?;
    statement.query_row([id], read_product).optional()?.ok_or(ShopError::NotFound("product"))
}

fn page(connection: &Connection, query: &ProductQuery) -> Result<ProductPage, ShopError> {
    let mut from = "FROM products p JOIN stock s ON s.product_id = p.id".to_owned();
    let mut conditions = Vec::new();
    let mut values: Vec<rusqlite::types::Value> = Vec::new();
    let matching = match_expression(&query.words);
    if !query.words.is_empty() {
        from.push_str(" JOIN product_words w ON w.rowid = p.id");
        conditions.push("product_words MATCH ?");
        values.push(matching.into());
    }
    if let Some(category) = query.category {
        conditions.push("p.category = ?");
        values.push(category.to_owned().into());
    }
    if !conditions.is_empty() {
        from = format!("{from} WHERE {}", conditions.join(" AND "));
    }
    let total: i64 = connection
        .prepare_cached(&format!("SELECT count(*) {from}"))?
        .query_row(params_from_iter(&values), |row| row.get(0))?;
    let order = match query.sort {
        Sort::Featured if query.words.is_empty() => "p.id",
        // The name weighs more than the department, that more than the texts.
        Sort::Featured => "bm25(product_words, 8.0, 4.0, 2.0, 1.0), p.id",
        Sort::PriceUp => "p.price_cents, p.id",
        Sort::PriceDown => "p.price_cents DESC, p.id",
        Sort::Newest => "p.created_ms DESC, p.id DESC",
    };
    values.push(PAGE_SIZE.into());
    values.push(((query.page - 1) * PAGE_SIZE).into());
    let mut statement =
        connection.prepare_cached(&format!("SELECT {COLUMNS} {from} ORDER BY {order} LIMIT ? OFFSET ?"))?;
    let rows = statement.query_map(params_from_iter(&values), read_product)?;
    let items = rows.collect::<Result<_, _>>()?;
    Ok(ProductPage { items, page: query.page, pages: ((total + PAGE_SIZE - 1) / PAGE_SIZE).max(1), total })
}

/// What somebody typed as an FTS5 expression: every word must occur, the last letters of a word may be missing.
/// Each word is quoted, so that nothing typed is taken for an operator (<https://sqlite.org/fts5.html>, section 3.1).
fn match_expression(words: &str) -> String {
    let terms: Vec<_> = words
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .take(MAX_WORDS)
        .map(|word| format!("\"{word}\"*"))
        .collect();
    // A search for nothing but punctuation finds nothing.
    if terms.is_empty() { "\"\"".to_owned() } else { terms.join(" ") }
}

fn read_product(row: &Row<'_>) -> rusqlite::Result<Product> {
    Ok(Product {
        id: row.get(0)?,
        name: row.get(1)?,
        category: row.get(2)?,
        summary: row.get(3)?,
        description: row.get(4)?,
        price_cents: Cents(row.get(5)?),
        stock: row.get(6)?,
        shape: row.get(7)?,
        hue: row.get(8)?,
    })
}

#[cfg(test)]
mod tests {
    use super::match_expression;

    #[test]
    fn whatever_is_typed_becomes_quoted_words() {
        assert_eq!(match_expression("oak  board"), "\"oak\"* \"board\"*");
        assert_eq!(match_expression("NEAR(\"a\" OR b*"), "\"NEAR\"* \"a\"* \"OR\"* \"b\"*");
        assert_eq!(match_expression("\"*():^-"), "\"\"");
    }
}
