"""The demo model: its corpus, its tokenizer and the script that trains it."""
