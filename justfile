# The tasks people repeat. `just` alone lists them.

# Lists the tasks
default:
    @just --list --unsorted

# Compiles, formats and lints without running anything
check:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings
    cargo clippy --no-default-features --lib --bins -- -D warnings
    cargo run --quiet -- check

# Formats the code
fmt:
    cargo fmt --all

# Runs the tests, or those whose name contains ARGS
test *ARGS:
    cargo test --workspace {{ARGS}}

# All that must pass before a merge; cargo-deny too, where it is installed
ci:
    tests/run
    @if cargo deny --version >/dev/null 2>&1; then cargo deny check; else echo "cargo-deny is not installed (cargo install cargo-deny): licences and advisories were not checked"; fi

# Says what this machine has and lacks
doctor *ARGS:
    cargo run --quiet -- doctor {{ARGS}}

# Bakes, starts, rolls and rotates a fleet on this machine, under load
demo *ARGS:
    cargo run --quiet -- demo {{ARGS}}

# Refreshes every lock: this is how updates arrive
lock:
    cargo run --quiet -- lock --all --update

# Bakes an image
bake IMAGE='web':
    cargo run --quiet -- bake {{IMAGE}}

# Simulates a million schedules of rollouts, or as many as are asked for, and prints how many a second
soak SCHEDULES='1000000':
    REKILN_SCHEDULES={{SCHEDULES}} cargo test --release --no-default-features --test schedules simulation::what_must -- --nocapture

# Puts faults into the rollout engine, one after the other, and prints which of them its simulation catches
mutations *ARGS:
    python3 -B tests/mutations.py {{ARGS}}

# Measures bakes and boots beside mmdebstrap and a stock Debian, and deriving beside Packer, on this machine
bench *ARGS:
    cargo build --release
    python3 tests/bench.py {{ARGS}}

# Measures deriving an image from a vendor's disk beside Packer, on this machine; `just bench` does it too
bench-derive *ARGS:
    cargo build --release
    python3 -B tests/bench_derive.py {{ARGS}}

# Measures what a step of a rollout costs, from 10 instances to 50,000, or the cases whose name contains ARGS
scale *ARGS:
    cargo bench --no-default-features --bench scale -- --noplot {{ARGS}}

# Writes the JSON schemas of recipes, fleets and playbooks
schemas:
    cargo run --quiet -- schema recipe > docs/schema/recipe.json
    cargo run --quiet -- schema fleet > docs/schema/fleet.json
    cargo run --quiet -- schema playbook > docs/schema/playbook.json

# Writes the manual pages and shell completions below target/
pages:
    cargo run --quiet -- man --dir target/man
    mkdir -p target/completions
    cargo run --quiet -- completions bash > target/completions/rekiln.bash
    cargo run --quiet -- completions zsh > target/completions/_rekiln
    cargo run --quiet -- completions fish > target/completions/rekiln.fish
