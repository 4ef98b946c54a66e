//! Text that compresses like text: sentences, listings and code from a seed.

use std::sync::LazyLock;

use crate::random::Random;

static WORDS: LazyLock<Vec<&str>> = LazyLock::new(|| VOCABULARY.split_whitespace().collect());

const VOCABULARY: &str = "
    the a of to in is that for with when must should never always file module function value error result request
    answer stream record session message agent tool command folder project test build change history cache client
    server user model read write run check find keep move remove return update before after between without
    because whether each every only first last next same other new old long short small large exact whole naïve
    größer → “quoted” index token number string object array field name type path line block byte time order state
    limit reason it this and or not on by as be are has can will from at into then if
";

/// About `bytes` bytes of sentences.
pub fn sentences(random: &mut Random, bytes: usize) -> String {
    let mut text = String::with_capacity(bytes + 64);
    while text.len() < bytes {
        let words = random.between(4, 16);
        for i in 0..words {
            if i > 0 {
                text.push(' ');
            }
            text.push_str(random.pick(&WORDS));
        }
        text.push_str(if random.one_in(6) { ".\n\n" } else { ". " });
    }
    text
}

/// About `bytes` bytes of a program.
pub fn code(random: &mut Random, bytes: usize) -> String {
    let mut text = String::with_capacity(bytes + 128);
    while text.len() < bytes {
        let (name, argument) = (word(random), word(random));
        text.push_str(&format!("def {name}_{}({argument}):\n", random.between(0, 1000)));
        text.push_str(&format!("    \"\"\"{}\"\"\"\n", sentences(random, 40).trim().replace('\n', " ")));
        for _ in 0..random.between(1, 6) {
            text.push_str(&format!(
                "    {} = {argument}.{}({:?})\n",
                word(random),
                word(random),
                random.between(0, 99999)
            ));
        }
        text.push_str(&format!("    return {argument}\n\n"));
    }
    text
}

/// About `bytes` bytes as `Read` shows a file: numbered lines.
pub fn listing(random: &mut Random, bytes: usize) -> String {
    code(random, bytes).lines().enumerate().map(|(i, line)| format!("{}\t{line}\n", i + 1)).collect()
}

/// A word of letters only.
pub fn word(random: &mut Random) -> &'static str {
    loop {
        let word = random.pick(&WORDS);
        if word.bytes().all(|byte| byte.is_ascii_lowercase()) && word.len() > 2 {
            return word;
        }
    }
}
