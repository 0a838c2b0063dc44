//! What a person sees.

use rekiln::watch::view::View;

use super::browser::Browser;
use super::sample::{HOSTILE, ago, busy, fleet, hostile, instance, quiet};
use super::site::Site;

/// Writes pictures to the directory `REKILN_TEST_PICTURES`, for who changes how the page looks; in a test run
/// there is none.
fn keep(browser: &Browser, name: &str) {
    use base64::Engine as _;
    if let Some(directory) = std::env::var_os("REKILN_TEST_PICTURES") {
        let png = base64::engine::general_purpose::STANDARD.decode(browser.picture()).expect("base 64");
        std::fs::write(std::path::Path::new(&directory).join(format!("{name}.png")), png).expect("written");
    }
}

fn has(text: &str) -> String {
    format!("return document.querySelector('main').textContent.includes({})", serde_json::json!(text))
}

#[test]
fn on_every_screen() {
    let site = Site::showing(busy());
    let browser = Browser::start();
    browser.go(&site.url("/"));
    assert_eq!(browser.run("return document.querySelectorAll('article').length"), 3);
    let mut long = quiet();
    long.fleets[0].name = "x".repeat(300);
    long.fleets[0].instances[0].id = "y".repeat(300);
    long.git.state = "z".repeat(3000);
    let days = [("busy", busy()), ("quiet", quiet()), ("hostile", hostile()), ("long", long)];
    for (day, view) in days {
        let mark = format!("of {day}");
        site.show(marked(view, &mark));
        browser.wait(&has(&mark));
        for width in [360, 800, 961, 1280, 1540, 1600] {
            for dark in [false, true] {
                browser.screen(width, 1800, dark);
                let wide = "return document.scrollingElement.scrollWidth <= innerWidth";
                assert_eq!(browser.run(wide), true, "{day}: {width} pixels are not enough");
                // Words that nobody uses may take more room than there is; then their card moves.
                let cards = "return [...document.querySelectorAll('main section, article')] \
                             .filter(card => card.scrollWidth > card.clientWidth) \
                             .map(card => `${card.dataset.key}: ${card.scrollWidth} in ${card.clientWidth}`)";
                if ["busy", "quiet"].contains(&day) {
                    assert_eq!(browser.run(cards), serde_json::json!([]), "{day}: {width}");
                }
                keep(&browser, &format!("{day}-{width}-{}", if dark { "dark" } else { "light" }));
            }
        }
    }
    assert_eq!(browser.complaints(), [""; 0]);
}

/// A view that can be told from others.
fn marked(mut view: View, mark: &str) -> View {
    mark.clone_into(&mut view.lines[0].text);
    view
}

#[test]
fn a_change_leaves_the_reader_alone() {
    let mut view = quiet();
    view.fleets = vec![fleet("web", 40, 38), fleet("db", 3, 3)];
    let site = Site::showing(view.clone());
    let browser = Browser::start();
    browser.screen(800, 600, false);
    browser.go(&site.url("/"));
    browser.wait("return /^(now|[0-9]+ s ago)$/.test(document.querySelector('#seen time').textContent)");
    browser.run("window.mine = 1; document.querySelector('details > summary').focus()");
    browser.run("document.querySelector('details').open = true; scrollTo(0, 700)");
    browser.run("getSelection().selectAllChildren(document.querySelector('[data-key=\"web-37\"] th'))");
    let place = browser.run("return scrollY");
    assert!(place.as_f64().is_some_and(|place| place > 100.0), "{place}");

    // Below what is read, something comes; within it, something goes and something changes.
    let all = &mut view.fleets[0].instances;
    all.remove(30);
    all[20].zone = Some("elsewhere-1".to_owned());
    all.push(instance("web", 77, true));
    view.fleets[1].paused = Some("a person says so".to_owned());
    view.git.bad = true;
    site.show(view.clone());
    browser.wait(&has("a person says so"));
    for (what, expected) in [
        ("window.mine === 1", "it was loaded anew"),
        ("document.querySelector('details').open", "what was open is closed"),
        ("document.activeElement === document.querySelector('details > summary')", "the focus went"),
        ("getSelection().toString() === 'web-37'", "the selection went"),
        ("!document.querySelector('[data-key=\"web-30\"]')", "what went is still there"),
        ("!!document.querySelector('details [data-key=\"web-77\"]')", "what came is not there"),
        ("document.querySelector('[data-key=\"web-20\"]').textContent.includes('elsewhere-1')", "no change"),
        ("document.title === '(2) main · rekiln'", "the title says how many things need attention"),
        ("document.querySelector('main > .overview h1').textContent === 'main'", "the head is not the head"),
    ] {
        assert_eq!(browser.run(&format!("return {what}")), true, "{expected}");
    }
    // The list grew above the place too, and the browser keeps what is read where it was.
    let row = "return document.querySelector('[data-key=\"web-20\"]').getBoundingClientRect().top";
    let before = browser.run(row);
    view.remote = "https://other.example/a.git".to_owned();
    site.show(view);
    browser.wait(&has("https://other.example/a.git"));
    assert_eq!(browser.run(row), before, "the place moved");
    assert_eq!(browser.run("return document.querySelector('#banner').textContent"), "");
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn what_is_hostile_is_only_text() {
    let site = Site::showing(hostile());
    let browser = Browser::start();
    browser.go(&site.url("/"));
    // As the page brought it, and as the script put it there.
    for mark in ["as it came", "as it changed"] {
        let mut view = hostile();
        mark.clone_into(&mut view.lines[1].text);
        site.show(view);
        browser.wait(&has(mark));
        let shown = HOSTILE.replace('\u{202e}', "\u{fffd}");
        assert_eq!(browser.run(&has(&shown)), true);
        let title = format!("(8) {shown} · rekiln");
        assert_eq!(browser.run("return document.title"), title.as_str());
        for odd in ["window.hacked", "document.querySelector('#bold, main script, main img, main style')"] {
            assert_eq!(browser.run(&format!("return {odd} ?? null")), serde_json::Value::Null, "{odd}");
        }
        assert_eq!(browser.run("return document.querySelectorAll('article').length"), 3);
    }
    assert_eq!(browser.complaints(), [""; 0]);
    // Should text ever become a script or a style all the same, the browser does not obey it.
    for (element, text) in [("script", "window.hacked = 4"), ("style", "main { display: none }")] {
        browser.run(&format!(
            "const odd = document.createElement('{element}'); odd.textContent = '{text}'; \
             document.body.append(odd)"
        ));
        let complaints = browser.complaints();
        assert!(complaints.len() == 1 && complaints[0].contains("Content Security Policy"), "{complaints:?}");
    }
    assert_eq!(browser.run("return window.hacked ?? null"), serde_json::Value::Null);
    assert_eq!(
        browser.run("return getComputedStyle(document.querySelector('main')).display !== 'none'"),
        true
    );
}

#[test]
fn a_server_that_is_gone_and_comes_back() {
    let mut site = Site::showing(quiet());
    let browser = Browser::start();
    browser.go(&site.url("/"));
    browser.run("window.mine = 1");
    let banner = |text: &str| {
        let text = serde_json::json!(text);
        format!("return document.querySelector('#banner[role=status]').textContent.startsWith({text})")
    };
    browser.wait("return document.querySelector('#banner').textContent === ''");
    assert_eq!(browser.complaints(), [""; 0]);
    site.stop();
    browser.wait(&banner("Not connected since "));
    let visible = "return document.querySelector('#banner').getBoundingClientRect().height > 10";
    assert_eq!(browser.run(visible), true);
    let mut view = quiet();
    view.fleets.push(fleet("db", 2, 2));
    site.show(view.clone());
    site.begin();
    browser.wait("return document.querySelector('#banner').textContent === ''");
    browser.wait(&has("db-1"));
    assert_eq!(browser.run("return window.mine"), 1, "it was not loaded anew");
    let complaints = browser.complaints();
    assert!(complaints.iter().all(|line| line.contains("net::ERR_")), "{complaints:?}");
    view.at = ago(3);
    site.show(view);
    browser.wait(&banner("The watcher answers, and has not looked"));
}

/// Whoever allows no scripts reads the same, as it was when the browser last asked.
#[test]
fn without_a_script() {
    let site = Site::showing(quiet());
    let browser = Browser::start();
    browser.cdp("Emulation.setScriptExecutionDisabled", &serde_json::json!({ "value": true }));
    browser.go(&site.url("/"));
    browser.wait("return /^as of 20[0-9-]+ [0-9:]+ UTC$/.test(document.querySelector('#seen').textContent)");
    let mut view = quiet();
    view.fleets.push(fleet("db", 2, 2));
    site.show(view);
    browser.wait(&has("db-1"));
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn a_large_fleet() {
    let mut view = quiet();
    view.fleets = vec![fleet("web", 2000, 1998)];
    let site = Site::showing(view);
    let browser = Browser::start();
    browser.go(&site.url("/"));
    assert_eq!(browser.run("return document.querySelectorAll('article tbody tr').length"), 202);
    assert_eq!(browser.run(&has("1798 more instances")), true);
    assert_eq!(browser.run("return document.querySelector('details').open"), false);
    assert_eq!(browser.complaints(), [""; 0]);
}
