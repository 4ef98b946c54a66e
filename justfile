# Shortcuts; every one of them is a command that also works without just.

# Everything that must hold before a change lands; exactly what CI runs.
check:
    scripts/check

# The tests alone; further words go to cargo, e.g. `just test -p winni`.
test *words:
    scripts/test {{words}}

# Build the container images and test them; further words name tests.
test-containers *words:
    scripts/test-containers {{words}}

# Fuzz for ICCM_FUZZ_SECONDS (300) per target; further words name targets, e.g. `just fuzz sse`.
fuzz *words:
    scripts/fuzz {{words}}

# Run the recorder on its usual ports.
up *words:
    cargo run --release -p iccm -- up {{words}}

# Format everything.
fmt:
    cargo fmt --all
