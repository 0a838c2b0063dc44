//! What a person sees.

use rekiln::watch::view::View;

use super::browser::Browser;
use super::sample::{HOSTILE, busy, fleet, hostile, quiet};
use super::site::Site;

/// Writes pictures to a directory, for who changes how the page looks; in a test run there is none.
fn keep(browser: &Browser, name: &str) {
    use base64::Engine as _;
    if let Some(directory) = std::env::var_os("REKILN_TEST_PICTURES") {
        let png = base64::engine::general_purpose::STANDARD.decode(browser.picture()).expect("base 64");
        std::fs::write(std::path::Path::new(&directory).join(format!("{name}.png")), png).expect("written");
    }
}

#[test]
fn on_every_screen() {
    let site = Site::showing(busy());
    let browser = Browser::start();
    browser.go(&site.url("/"));
    browser.wait("return document.querySelectorAll('article').length === 3");
    let days = [("busy", busy as fn() -> View), ("quiet", quiet), ("hostile", hostile)];
    for (day, view) in days {
        site.show(view());
        let expected = view().fleets.len();
        browser.wait(&format!("return document.querySelectorAll('article').length === {expected}"));
        for width in [360, 800, 1280, 1600] {
            for dark in [false, true] {
                browser.screen(width, 1800, dark);
                browser.wait("return document.querySelector('#banner').textContent === ''");
                let wide = "return document.scrollingElement.scrollWidth <= innerWidth";
                assert_eq!(browser.run(wide), true, "{day}: {width} pixels are not enough");
                keep(&browser, &format!("{day}-{width}-{}", if dark { "dark" } else { "light" }));
            }
        }
    }
    assert_eq!(browser.complaints(), [""; 0]);
    let _ = (HOSTILE, fleet("x", 1, 1));
}
