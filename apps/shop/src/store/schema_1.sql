-- Times are milliseconds since 1970, amounts are euro cents.

CREATE TABLE products (
    id          INTEGER PRIMARY KEY,
    name        TEXT    NOT NULL,
    category    TEXT    NOT NULL,
    summary     TEXT    NOT NULL,
    description TEXT    NOT NULL,
    price_cents INTEGER NOT NULL CHECK (price_cents > 0),
    shape       TEXT    NOT NULL,
    hue         INTEGER NOT NULL,
    created_ms  INTEGER NOT NULL
) STRICT;
CREATE INDEX products_by_category ON products (category);

-- Apart from the products, since it changes with every order and the texts do not.
CREATE TABLE stock (
    product_id INTEGER PRIMARY KEY REFERENCES products (id),
    units      INTEGER NOT NULL CHECK (units >= 0)
) STRICT;

CREATE VIRTUAL TABLE product_words USING fts5 (
    name, category, summary, description,
    content = 'products', content_rowid = 'id', tokenize = 'porter unicode61 remove_diacritics 2', prefix = '2 3'
);
CREATE TRIGGER products_inserted AFTER INSERT ON products BEGIN
    INSERT INTO product_words (rowid, name, category, summary, description)
    VALUES (new.id, new.name, new.category, new.summary, new.description);
END;
CREATE TRIGGER products_deleted AFTER DELETE ON products BEGIN
    INSERT INTO product_words (product_words, rowid, name, category, summary, description)
    VALUES ('delete', old.id, old.name, old.category, old.summary, old.description);
END;
CREATE TRIGGER products_reworded AFTER UPDATE OF name, category, summary, description ON products BEGIN
    INSERT INTO product_words (product_words, rowid, name, category, summary, description)
    VALUES ('delete', old.id, old.name, old.category, old.summary, old.description);
    INSERT INTO product_words (rowid, name, category, summary, description)
    VALUES (new.id, new.name, new.category, new.summary, new.description);
END;

CREATE TABLE accounts (
    id            INTEGER PRIMARY KEY,
    email         TEXT    NOT NULL UNIQUE,
    name          TEXT    NOT NULL,
    password_hash TEXT    NOT NULL,
    staff         INTEGER NOT NULL DEFAULT 0 CHECK (staff IN (0, 1)),
    created_ms    INTEGER NOT NULL
) STRICT;

CREATE TABLE sessions (
    token      TEXT    PRIMARY KEY,
    account_id INTEGER NOT NULL REFERENCES accounts (id),
    csrf       TEXT    NOT NULL,
    expires_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX sessions_by_expiry ON sessions (expires_ms);

CREATE TABLE carts (
    id              TEXT    PRIMARY KEY,
    idempotency_key TEXT    UNIQUE,
    order_id        TEXT    REFERENCES orders (id),
    updated_ms      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX carts_by_update ON carts (updated_ms);

CREATE TABLE cart_items (
    cart_id    TEXT    NOT NULL REFERENCES carts (id) ON DELETE CASCADE,
    product_id INTEGER NOT NULL REFERENCES products (id),
    quantity   INTEGER NOT NULL CHECK (quantity > 0),
    PRIMARY KEY (cart_id, product_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE orders (
    id              TEXT    PRIMARY KEY,
    idempotency_key TEXT    NOT NULL UNIQUE,
    fingerprint     TEXT    NOT NULL,
    account_id      INTEGER REFERENCES accounts (id),
    email           TEXT    NOT NULL,
    status          TEXT    NOT NULL CHECK (status IN ('pending_payment', 'paid', 'payment_failed')),
    total_cents     INTEGER NOT NULL,
    created_ms      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX orders_by_account ON orders (account_id, created_ms) WHERE account_id IS NOT NULL;

CREATE TABLE order_items (
    order_id         TEXT    NOT NULL REFERENCES orders (id),
    product_id       INTEGER NOT NULL REFERENCES products (id),
    name             TEXT    NOT NULL,
    quantity         INTEGER NOT NULL CHECK (quantity > 0),
    unit_price_cents INTEGER NOT NULL,
    PRIMARY KEY (order_id, product_id)
) STRICT, WITHOUT ROWID;

-- The intent to charge an order, written with the order itself.
CREATE TABLE payments (
    order_id        TEXT    PRIMARY KEY REFERENCES orders (id),
    provider_key    TEXT    NOT NULL UNIQUE,
    method          TEXT    NOT NULL,
    amount_cents    INTEGER NOT NULL,
    state           TEXT    NOT NULL CHECK (state IN ('pending', 'succeeded', 'failed')),
    reference       TEXT,
    reason          TEXT,
    attempts        INTEGER NOT NULL DEFAULT 0,
    next_attempt_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX payments_pending ON payments (next_attempt_ms) WHERE state = 'pending';

-- What the built-in test provider remembers. Only it reads and writes here.
CREATE TABLE test_provider_charges (
    idempotency_key TEXT    PRIMARY KEY,
    order_id        TEXT    NOT NULL,
    amount_cents    INTEGER NOT NULL,
    outcome         TEXT    NOT NULL CHECK (outcome IN ('approved', 'declined', 'unanswered')),
    reference       TEXT    NOT NULL,
    attempts        INTEGER NOT NULL,
    created_ms      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX test_provider_charges_by_order ON test_provider_charges (order_id);
