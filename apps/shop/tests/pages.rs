//! The pages as a browser sees them: cookies, forms, what a person can do.

// A test that cannot go on says so by panicking, in its helpers as well.
#![allow(clippy::unwrap_used)]

mod common;

use common::{get, hidden, request, send_form, shop};

#[test]
fn a_person_can_register_buy_and_see_the_order() {
    let (_folder, shop) = shop();
    let at = shop.address;
    let page = get(at, "/products/12");
    let csrf_cookie = page.cookie("shop_csrf").unwrap();
    let csrf = hidden(&page.body, "csrf");
    let add = |cookies: &str, csrf: &str| {
        send_form(at, "/cart/items", cookies, &[("csrf", csrf), ("product", "12"), ("add", "2")])
    };
    assert_eq!(add("", &csrf).status, 403, "a form without its cookie");
    assert_eq!(add(&csrf_cookie, "guessed").status, 403, "a form without its secret");
    let added = add(&csrf_cookie, &csrf);
    assert_eq!((added.status, added.header("location")), (303, Some("/cart")));
    let cart_cookie = added.cookie("shop_cart").unwrap();
    let with_cart = format!("{csrf_cookie}; {cart_cookie}");
    let see = |path: &str, cookies: &str| request(at, "GET", path, &[("Cookie", cookies)], "").unwrap();
    assert!(see("/cart", &with_cart).body.contains("€36.00"));

    let account = [("csrf", csrf.as_str()), ("name", "Ada"), ("email", "ada@example.com"), ("password", "short")];
    assert_eq!(send_form(at, "/account/register", &with_cart, &account).status, 422);
    let account = [("csrf", csrf.as_str()), ("name", "Ada"), ("email", "ada@example.com"), ("password", "long enough")];
    let registered = send_form(at, "/account/register", &with_cart, &account);
    assert_eq!(registered.status, 303, "{}", registered.body);
    let set = registered.headers.iter().find(|(_, value)| value.starts_with("shop_session=")).unwrap();
    assert!(set.1.contains("HttpOnly") && set.1.contains("SameSite=Lax"), "{}", set.1);
    let session = format!("{}; {cart_cookie}", registered.cookie("shop_session").unwrap());
    assert_eq!(send_form(at, "/account/register", &with_cart, &account).status, 422, "the address is taken");

    let checkout = see("/checkout", &session).body;
    let fields = ["csrf", "cart", "key"].map(|name| (name, hidden(&checkout, name)));
    let mut form: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    form.extend([("email", "ada@example.com"), ("payment_method", "test-card")]);
    let ordered = send_form(at, "/checkout", &session, &form);
    assert_eq!(ordered.status, 303, "{}", ordered.body);
    let order = ordered.header("location").unwrap().to_owned();
    assert_eq!(send_form(at, "/checkout", &session, &form).header("location"), Some(order.as_str()), "a double click");
    let shown = see(&order, &session).body;
    assert!(shown.contains("it is paid") && !shown.contains("ada@example.com"), "{shown}");
    assert!(see("/account", &session).body.contains(&order));
    assert_eq!(see("/publish", &session).status, 403);

    let csrf = hidden(&see("/account", &session).body, "csrf");
    assert_eq!(send_form(at, "/account/sign-out", &session, &[("csrf", &csrf)]).status, 303);
    assert_eq!(see("/account", &session).status, 303, "the session has ended");
}

#[test]
fn staff_can_publish_and_wrong_passwords_do_not_sign_in() {
    let (_folder, shop) = shop();
    let at = shop.address;
    let page = get(at, "/account/sign-in");
    let (cookie, csrf) = (page.cookie("shop_csrf").unwrap(), hidden(&page.body, "csrf"));
    let sign_in = |email: &str, password: &str| {
        let form = [("csrf", csrf.as_str()), ("email", email), ("password", password)];
        send_form(at, "/account/sign-in", &cookie, &form)
    };
    assert_eq!(sign_in("keeper@example.com", "plenty of rops").status, 422);
    assert_eq!(sign_in("nobody@example.com", "plenty of rope").status, 422);
    let session = sign_in("Keeper@example.com", "plenty of rope").cookie("shop_session").unwrap();
    let form = request(at, "GET", "/publish", &[("Cookie", &session)], "").unwrap();
    let csrf = hidden(&form.body, "csrf");
    let publish = |price: &str| {
        let fields = [
            ("csrf", csrf.as_str()),
            ("name", "Marlinspike"),
            ("category", "outdoors"),
            ("summary", "Opens what is knotted."),
            ("description", ""),
            ("price", price),
            ("stock", "5"),
            ("shape", "knife"),
        ];
        send_form(at, "/publish", &session, &fields)
    };
    let refused = publish("a lot");
    assert!(refused.status == 422 && refused.body.contains("Marlinspike"), "what was typed is kept");
    let published = publish("12,50");
    assert_eq!(published.status, 303, "{}", published.body);
    assert!(get(at, published.header("location").unwrap()).body.contains("€12.50"));
}

#[test]
fn every_page_is_strict_and_named() {
    let (_folder, shop) = shop();
    let id = [("X-Request-Id", "abc-123")];
    let page = request(shop.address, "GET", "/", &id, "").unwrap();
    assert_eq!(page.header("x-request-id"), Some("abc-123"));
    assert!(page.header("content-security-policy").unwrap().starts_with("default-src 'none'"));
    assert!(!page.body.contains("<script") && !page.body.contains("style=\""), "the policy would forbid it");
    let style = page.body.split("rel=\"stylesheet\" href=\"").nth(1).unwrap().split('"').next().unwrap();
    assert!(get(shop.address, style).header("cache-control").unwrap().contains("immutable"));
    let elsewhere = [("Sec-Fetch-Site", "cross-site"), ("Content-Type", "application/json")];
    assert_eq!(request(shop.address, "POST", "/api/carts", &elsewhere, "").unwrap().status, 403);
    for path in ["/healthz", "/readyz"] {
        assert_eq!(get(shop.address, path).status, 200);
    }
}
