//! Products and how they are listed.

use serde::Serialize;

use super::{Cents, ProductId, bounded_text};
use crate::error::ShopError;

/// Products on one page of a list.
pub const PAGE_SIZE: i64 = 24;
const MAX_PAGE: i64 = 10_000;
const MAX_QUERY_CHARS: usize = 100;
const MAX_UNITS: i64 = 1_000_000_000;

/// A department of the shop.
#[derive(Debug)]
pub struct CategoryInfo {
    /// Its name in addresses and in the database.
    pub slug: &'static str,
    /// Its name on pages.
    pub name: &'static str,
    /// One line about it.
    pub blurb: &'static str,
    /// The picture that stands for it.
    pub shape: &'static str,
    /// The colour of that picture, in degrees.
    pub hue: i64,
}

/// The departments, in the order of the menu.
pub const CATEGORIES: [CategoryInfo; 6] = [
    CategoryInfo {
        slug: "kitchen",
        name: "Kitchen",
        blurb: "Pans, knives and bowls for daily use",
        shape: "pan",
        hue: 16,
    },
    CategoryInfo {
        slug: "table",
        name: "Table",
        blurb: "Cups, plates and what goes between them",
        shape: "cup",
        hue: 200,
    },
    CategoryInfo { slug: "desk", name: "Desk", blurb: "Paper, pens and quiet order", shape: "book", hue: 262 },
    CategoryInfo { slug: "light", name: "Light", blurb: "Lamps, lanterns and candles", shape: "lamp", hue: 42 },
    CategoryInfo {
        slug: "textiles",
        name: "Textiles",
        blurb: "Linen, wool and heavy cotton",
        shape: "blanket",
        hue: 340,
    },
    CategoryInfo {
        slug: "outdoors",
        name: "Outdoors",
        blurb: "Bags, rope and bottles for the way",
        shape: "bag",
        hue: 150,
    },
];

/// The pictures that exist, by name.
pub const SHAPES: [&str; 16] = [
    "bag", "blanket", "board", "book", "bottle", "bowl", "candle", "cup", "jar", "knife", "lamp", "lantern", "pan",
    "pencil", "rope", "towel",
];

/// The department called `slug`, if there is one.
pub(crate) fn category(slug: &str) -> Option<&'static CategoryInfo> {
    CATEGORIES.iter().find(|category| category.slug == slug)
}

/// A product as it is shown.
#[derive(Clone, Debug, Serialize)]
pub struct Product {
    /// Its number.
    pub id: ProductId,
    /// Its name.
    pub name: String,
    /// The slug of its department.
    pub category: String,
    /// One sentence.
    pub summary: String,
    /// A paragraph.
    pub description: String,
    /// Its price.
    pub price_cents: Cents,
    /// Units that can still be ordered.
    pub stock: i64,
    /// The name of its picture, one of [`SHAPES`].
    pub shape: String,
    /// The colour of its picture, in degrees of the colour circle.
    pub hue: i64,
}

/// The order of a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// By number, or by relevance when words are searched.
    #[default]
    Featured,
    /// Cheapest first.
    PriceUp,
    /// Dearest first.
    PriceDown,
    /// Newest first.
    Newest,
}

impl Sort {
    /// Every order with its name in addresses and on pages.
    pub const ALL: [(Self, &'static str, &'static str); 4] = [
        (Self::Featured, "featured", "Featured"),
        (Self::PriceUp, "price-up", "Price, low to high"),
        (Self::PriceDown, "price-down", "Price, high to low"),
        (Self::Newest, "newest", "Newest"),
    ];

    /// The order called `name` in addresses; the default for a name that is unknown.
    pub fn parse(name: &str) -> Self {
        Self::ALL.iter().find(|(_, known, _)| *known == name).map(|(sort, ..)| *sort).unwrap_or_default()
    }

    /// Its name in addresses.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(sort, ..)| *sort == self).map_or("featured", |(_, name, _)| name)
    }
}

/// What is listed.
#[derive(Clone, Debug)]
pub struct ProductQuery {
    /// Words to search for; empty for everything.
    pub words: String,
    /// Slug of a department, or every department.
    pub category: Option<&'static str>,
    /// From 1.
    pub page: i64,
    /// The order.
    pub sort: Sort,
}

impl ProductQuery {
    /// A query from what a request says. A page or a department that cannot be is an error.
    pub fn new(words: &str, category_slug: &str, page: i64, sort: Sort) -> Result<Self, ShopError> {
        if !(1..=MAX_PAGE).contains(&page) {
            return Err(ShopError::BadRequest(format!("page must be from 1 to {MAX_PAGE}")));
        }
        let words = bounded_text("search", words, 0, MAX_QUERY_CHARS)?;
        let category = match category_slug {
            "" => None,
            slug => Some(category(slug).ok_or(ShopError::NotFound("category"))?.slug),
        };
        Ok(Self { words, category, page, sort })
    }
}

/// One page of a list.
#[derive(Debug, Serialize)]
pub struct ProductPage {
    /// The products of this page.
    pub items: Vec<Product>,
    /// This page, from 1.
    pub page: i64,
    /// How many pages there are, at least 1.
    pub pages: i64,
    /// How many products there are on all pages.
    pub total: i64,
}

/// A product to publish, checked.
#[derive(Debug)]
pub struct NewProduct {
    pub(crate) name: String,
    pub(crate) category: &'static str,
    pub(crate) summary: String,
    pub(crate) description: String,
    pub(crate) price: Cents,
    pub(crate) stock: i64,
    pub(crate) shape: &'static str,
    pub(crate) hue: i64,
}

impl NewProduct {
    /// Checks names, lengths and ranges. An empty `shape` takes the department's picture; the colour of the
    /// picture follows from the name.
    pub fn new(
        name: &str,
        category_slug: &str,
        (summary, description): (&str, &str),
        price: Cents,
        stock: i64,
        shape: &str,
    ) -> Result<Self, ShopError> {
        let known = category(category_slug).ok_or_else(|| {
            let slugs: Vec<_> = CATEGORIES.iter().map(|category| category.slug).collect();
            ShopError::Invalid(format!("the category must be one of {}", slugs.join(", ")))
        })?;
        let shape = if shape.is_empty() { known.shape } else { shape };
        let shape = SHAPES
            .iter()
            .find(|known| **known == shape)
            .ok_or_else(|| ShopError::Invalid(format!("the picture must be one of {}", SHAPES.join(", "))))?;
        if !(0..=MAX_UNITS).contains(&stock) {
            return Err(ShopError::Invalid(format!("the stock must be from 0 to {MAX_UNITS}")));
        }
        let name = bounded_text("name", name, 2, 80)?;
        let hue = name.bytes().fold(7_i64, |hash, byte| (hash * 31 + i64::from(byte)) % 360);
        Ok(Self {
            category: known.slug,
            summary: bounded_text("summary", summary, 2, 160)?,
            description: bounded_text("description", description, 0, 4000)?,
            price: Cents::price(price.0)?,
            stock,
            shape,
            hue,
            name,
        })
    }
}
