"""Texts that show where two tokenizers differ."""

# ruff: noqa: RUF001 - letters that look alike are what this file is for

from __future__ import annotations

from collections.abc import Iterator, Sequence

#: How much of a vocabulary is tried: each text costs a few microseconds in a library.
VOCABULARY_MAX = 20_000

_SCRIPTS = (
    "The quick brown fox jumps over the lazy dog. It's 5 o'clock, they'LL say; I'd've gone!",
    "Fünf süße Äpfel; déjà vu, naïve façade, ¿qué tal?, Ærøskøbing, Straße, İstanbul ıI",
    "Съешь же ещё этих мягких французских булок",
    "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία, ΐ ΰ ὼ ᾳ",
    "敏捷的棕色狐狸跳过了懒狗。你好，世界！１２３ＡＢＣ",
    "いろはにほへと ちりぬるを カタカナ ｶﾀｶﾅ が ガ 漢字",
    "키스의 고유조건은 입술끼리 만나야 하고 ᄒ\u1161\u11ab",
    "نص حكيم له سر قاطع وذو شأن عظيم ١٢٣ \u0640\u064b",
    "עטלף אבק נס דרך מזגן שהתפוצץ שָׁלוֹם",
    "ऋषियों को सताने वाले दुष्ट राक्षसों क्षि १२३",
    "เป็นมนุษย์สุดประเสริฐเลิศคุณค่า ๑๒๓",
    "தமிழ் మన తెలుగు ಕನ್ನಡ മലയാളം ਪੰਜਾਬੀ ગુજરાતી বাংলা ၁၂၃ မြန်မာ ខ្មែរ ລາວ བོད",
    "საქართველო Հայաստան አማርኛ ᏣᎳᎩ ᠮᠣᠩᠭᠣᠯ 𐌰𐌱𐌲 𝔘𝔫𝔦 𒀀𒀁",
)
_CODE = (
    'def f(x: int) -> str:\n    """Doc."""\n\n    return f"{x!r:>10}"  # 0xFF\n',
    "for (int i = 0; i < n; ++i) {\r\n\tif (a[i] != b[i]) return -1;\r\n}\r\n",
    '{"key": [1, 2.5e-3, null, true], "url": "https://example.org/a?b=c&d=%20#e"}',
    "SELECT * FROM t WHERE a >= 1 AND b <> 'x''y'; -- comment\n/* ... */",
    "<div class='a'>\n  <p>text&nbsp;&amp;</p>\n</div><!-- x -->",
    "a_b __init__ camelCase PascalCase SCREAMING_CASE x->y::z ===== ------ ////// ######",
)
_SPACES = (
    " ", "  ", "   ", " a", "  a", "a ", "a  ", "a  b", "a   b    c", "\n", "\n\n", "\n\n\n\n",
    "\t", "\t\t\ta", " \n \n ", "a\n", "\na", "\r\n\r\n", "a \n  b", "a\u00a0b", "\u3000a\u3000",
    "\u2003\u2009a", "a\u200bb", "\u2028a\u2029", "a\u0085b", "\x0b\x0ca", "\ufeffa",
    "\u00a0 \u00a0",
)  # fmt: skip
_DIGITS = (
    "0", "7", "12", "123", "1234", "1234567890", "3.14159", "1,000,000", "-42", "2024-02-29",
    "٣٤٥", "½ ¼ ² ³ ⅷ Ⅻ", "１２３４", "1st 2nd x1 1x",
)  # fmt: skip
_EMOJI = (
    "🙂",
    "👩\u200d👩\u200d👧\u200d👦 👍🏽",
    "🇩🇪🇫🇷",
    "a🚀b 🚀🚀",
    "☎\ufe0f ✂ ♥",
    "🏴\U000e0067\U000e0062",
)
_CONTROLS = (
    "\x00", "a\x00b", "\x01\x02\x1f\x7f", "\x1b[0m", "\u0080\u009f", "\ufffd\ufffd", "\ufffe\uffff",
    "\ue000", "\U0010ffff", "\U000f0000", "e\u0301 é Å Å ﬁ ﬀ ſ K", "a\u0300\u0301\u0302\u0303",
    "\u0301a", "\u202ea\u202c", "Ⅷ ㎏ ㈱ ﷺ …", "a\u00adb",
)  # fmt: skip
_SPECIAL_LIKE = (
    "<s>", "</s>", "<unk>", "<pad>", "a<s>b", "<0x41>", "<0x0A>", "[INST] a [/INST]",
    "<|endoftext|>", "<|im_start|>user\na<|im_end|>", "<|", "|>", "<<SYS>>", "[UNK][CLS]",
    "▁", "▁▁", "▁a", "a▁b", "a▁", " ▁ ▁", "Ġa", "Ċ", "##a", "a</w>", "<|fim_prefix|>",
)  # fmt: skip
_RUNS = tuple(char * count for char in " \n\ta=-.▁0ä🙂" for count in (2, 3, 5, 7, 16, 31, 64))

TEXTS = (
    *_SCRIPTS, *_CODE, *_SPACES, *_DIGITS, *_EMOJI, *_CONTROLS, *_SPECIAL_LIKE, *_RUNS,
)  # fmt: skip


def of_vocabulary(pieces: Sequence[str]) -> Iterator[str]:
    """The vocabulary's own pieces, a number of them where they are many, also two by two."""
    step = max(1, len(pieces) // VOCABULARY_MAX)
    chosen = pieces[::step]
    for place, piece in enumerate(chosen):
        yield piece
        yield piece + chosen[-1 - place]
