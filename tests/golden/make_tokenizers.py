"""Makes tests/golden/tokenizers: small tokenizers of every kind, and what the Hugging Face tokenizers library (for the
SentencePiece kind: the sentencepiece library) makes of 10,000 strings. Needs the packages tokenizers, sentencepiece and
protobuf; the tests need none of them.

    python3 tests/golden/make_tokenizers.py            # from the project's root; a minute

Files: strings.gz holds u32 count, then u32 bytes and the UTF-8 of each string. KIND.gz holds u32 bytes and the
tokenizer.json, then for each string four CRC-32: of the u16 ids of encode(add_special_tokens=True), of the text decoded
from them with special tokens and without, and of the ids when special tokens in the text are read as text and none are
added. Of the first FULL strings u16 count and the ids themselves follow. All numbers are little-endian. The
sentencepiece kind has the ids twice and the text twice. versions.json says what made the files."""
import gzip, io, json, os, random, struct, sys, tempfile, unicodedata, zlib

import sentencepiece
import tokenizers
from sentencepiece import sentencepiece_model_pb2
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

FULL = 1000
OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tokenizers")
MARK = "\u2581"

# ---- text to train on: made here, so that the same script gives the same vocabularies ----

WORDS = {
    "latin": """the of and to in a is that for it as was with be by on not he his but at are this have from or had an they
which one you were all her she there would their we him been has when who will no more if out so up said what its about
than into them can only other time new some could these two may first then do any like my now over such our man me even
most made after also did many must before see through way where get much go well your know should down work year because
come people just say each those take day good how long little own another old through expert router token gradient layer
attention matrix softmax capacity balance entropy sequence probability model training weight choose dropped assignment
routing mixture sparse dense hidden width feed forward Straße über für naïve façade déjà être garçon señor mañana coração
Ærø smørrebrød Łódź żółć český řeka İstanbul ığdır Hello World HTTPServer parseJSON camelCase UPPER ISO8601 don't we'll
I'm they've she'd it's o'clock""".split(),
    "cyrillic": "и в не на я быть он с что а это как весь который мочь свой год слово эксперт маршрут нейронная сеть".split(),
    "greek": "και το να είναι του για την με από δεν λόγος μοντέλο ειδικός δίκτυο".split(),
    "arabic": "في من على إلى عن مع هذا كان لا ما نموذج خبير شبكة".split(),
    "hebrew": "של את על הוא לא אני זה עם מודל רשת".split(),
    "devanagari": "है के में की से का और को यह नहीं विशेषज्ञ मॉडल क्षेत्र".split(),
    "thai": "ที่ และ การ เป็น ใน มี ของ ผู้เชี่ยวชาญ แบบจำลอง".split(),
    "cjk": "的 一 是 不 了 人 我 在 有 他 这 模型 专家 路由 注意力 深度学习 訓練 機械学習 ニューラルネット ひらがな カタカナ 専門家".split(),
    "hangul": "이 그 저 것 수 나 사람 전문가 모델 학습 신경망 한국어".split(),
    "code": """def return if else: for(int i=0;i<n;++i) { } [] () == != <= >= -> => // /* */ # include <stdio.h> self.x print("hi")
x = y + 1; 0x1F 3.14 1e-9 "\\n" 'c' null None True False &x *p a||b a&&b $var ${x} @attr ::std lambda""".split(),
}
PUNCTUATION = [".", ",", "!", "?", ";", ":", "...", "—", "–", "«", "»", "“", "”", "‘", "’", "。", "、", "！", "？", "(", ")", "¿", "¡", "…", "؟", "،"]
SPACES = [" ", " ", " ", " ", "  ", "\n", "\n\n", "\t", "\r\n", "\u00a0", "\u3000", "    "]


def sentence(rng, words):
    script = rng.choice(list(WORDS)) if rng.random() < 0.55 else "latin"
    parts = []
    for _ in range(words):
        if rng.random() < 0.08:
            script = rng.choice(list(WORDS))
        word = rng.choice(WORDS[script])
        if rng.random() < 0.1:
            word = word.capitalize()
        if rng.random() < 0.05:
            word = str(rng.randrange(10 ** rng.randrange(1, 8)))
        if rng.random() < 0.12:
            word += rng.choice(PUNCTUATION)
        parts.append(word)
        parts.append(rng.choice(SPACES) if rng.random() < 0.1 else " ")
    return "".join(parts)


def corpus():
    rng = random.Random(1)
    return [sentence(rng, rng.randrange(4, 30)) for _ in range(6000)]


# ---- added tokens, the same for every kind: all flags, alone and together ----

def added_tokens():
    from tokenizers import AddedToken

    return [
        AddedToken("<|begin|>", special=True, normalized=False),
        AddedToken("<|end|>", special=True, normalized=False),
        AddedToken("<|endoftext|>", special=True, normalized=False),
        AddedToken("<left>", special=True, normalized=False, lstrip=True),
        AddedToken("<right>", special=True, normalized=False, rstrip=True),
        AddedToken("<both>", special=True, normalized=False, lstrip=True, rstrip=True),
        AddedToken("<word>", special=True, normalized=False, single_word=True),
        AddedToken("<plain>", special=False, normalized=False),
        AddedToken("<plainer>", special=False, normalized=False),
        AddedToken("Normalized", special=False, normalized=True),
        AddedToken("ＷＩＤＥ", special=False, normalized=True),
        AddedToken("two words", special=False, normalized=True, single_word=True),
        AddedToken("lone", special=False, normalized=True, lstrip=True, single_word=True),
        AddedToken("        ", special=False, normalized=False),
        AddedToken("\n\n\n", special=False, normalized=False),
    ]


# ---- strings ----

EDGES = [
    "", " ", "  ", "   ", "\t", "\n", "\n\n", "\n\n\n", "\t\n", "Hello world", " Hello world", "Hello World", " Hello World",
    " Hello World!", "Hello, world!", " Hello, world!", " this is 🦙.cpp", "w048 7tuijk dsdfhu", "нещо на Български",
    "កាន់តែពិសេសអាចខលចេញ", "🚀 (normal) 😶\u200d🌫️ (multiple emojis concatenated) ✅ (only emoji that has its own token)",
    "Hello", " Hello", "  Hello", "   Hello", "    Hello", "    Hello\n    Hello", " (", "\n =", "' era",
    "Hello, y'all! How are you 😁 ?我想在apple工作1314151天～", "!!!!!!", "3", "33", "333", "3333", "33333", "333333",
    "3333333", "33333333", "333333333", "\ufeff//", "\ufeffa\ufeff", "Cửa Việt", "discards", "a\u2029b", "a\u2028b",
    "\u00a0", "a\u00a0b", " \u00a0 ", "½", "Ⅵ", "〇", "\x1f-a", "\x00", "a\x00b", "\x7f", "\x85", "a\x85b", "\u180e",
    "a\u180eb", "\u180e\u180e ", "\u200b", "a\u200bb", "\u200d", "\u2060", "\ufffd", "\U000e0001", "\ue000", "\U0010fffd",
    "'s", "'S", "'ſ", "I'ſ", "'ll'LL'Ll", "we’ll", "it'd've", "K", "\u212a", "ß", "ẞ", "ﬁ ﬂ ﬀ ﬆ", "İ", "İstanbul i̇", "ǅ ǈ",
    "e\u0301", "é", "e\u0301\u0323", "\u0301", "a\u0301\u0301\u0301", "ᄒ\u1161\u11ab", "한", "각", "ｶﾞ", "㎏", "①②", "Å Å",
    "\u0344", "\u0340", "\u0f73", "क्षि", "ക്ഷ", "🇩🇪🇫🇷", "👩\u200d👩\u200d👧\u200d👦", "\r\n", "\r", "a\rb", "\r\n\r\n", " \r\n ", "\n \n",
    " \n", "\n ", "  \n\n  ", "a \n", "a\n ", "a  ", "a \t ", "tab\ttab", "x" * 200, " " * 100, "\n" * 50, "ab" * 300, "0" * 64,
    "▁", "▁▁", "a▁b", " ▁ ", "▁a", "<0x41>", "<0x0A>", "<unk>", "<s>", "</s>", "<s>a", "[UNK]", "<|endoftext|><|endoftext|>",
    "²³¹¼½¾", "a²b", "٣٤٥", "१२३", "𝟘𝟙𝟚", "１２３", "_", "a_b", "‿⁀", "++--==", "a+b=c", "<<>>", "`code`", "~^|$",
    "\u166d\u2e43", "#$%&*@\\/[]{}", "https://example.com/a?b=c&d=%20#e", "user@example.com", "C:\\path\\file.txt",
    "2024-01-31T23:59:59.999Z", "1,234,567.89", "$1.00 €2,00 ¥300", "-1 +2 ±3", "if(x>0){return;}", "#include <a.h>\n",
]


def assigned():
    """Code points that PCRE2 10.42 and Python 3.11 know alike: Unicode 14."""
    assert unicodedata.unidata_version == "14.0.0", unicodedata.unidata_version
    return [chr(c) for c in range(1, 0x30000) if unicodedata.category(chr(c)) not in ("Cn", "Cs", "Co")]


def code_points(out):
    every = assigned()
    for i in range(0, len(every), 64):
        out.append("".join(every[i : i + 64]))
    rest = [c for c in every if not (0x3400 <= ord(c) <= 0x9FFF or 0xAC00 <= ord(c) <= 0xD7FF or ord(c) >= 0x17000)]
    for i in range(0, len(rest), 24):
        out.append("".join("a" + c + " " + c + "1" for c in rest[i : i + 24]))


def white_space_around(rng, out, tokens):
    spaces = ["", " ", "  ", "\t", "\n", "\u00a0", "\u2029", "\r\n"]
    for token in tokens:
        out.append(token)
        for _ in range(40):
            out.append("".join(rng.choice(["a", "", "Z", "_", "é", "!", "1"]) + rng.choice(spaces) + rng.choice(tokens[:15] + [token])
                               + rng.choice(spaces) + rng.choice(["", "b", "9", "."]) for _ in range(rng.randrange(1, 4))))


def random_strings(rng, out, count, every, tokens):
    pieces = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'LL", "’s", " '", "' ", "''", "'s't"]
    for i in range(count):
        kind, n = i % 9, rng.randrange(1, 40)
        if kind == 0:
            out.append("".join(chr(rng.randrange(32, 127)) for _ in range(n * 2)))
        elif kind == 1:
            out.append("".join(rng.choice(every) for _ in range(n)))
        elif kind == 2:
            out.append(sentence(rng, n))
        elif kind == 3:
            out.append("".join(rng.choice(SPACES + ["a", "B", "1", ".", "\r", "\u2003", "é"]) for _ in range(n)))
        elif kind == 4:
            out.append("".join(rng.choice(pieces + ["a", "I", " ", "we", "1", "\n"]) for _ in range(n)))
        elif kind == 5:
            low = rng.choice([0x80, 0x300, 0x400, 0x590, 0x900, 0xE00, 0x1100, 0x2000, 0x3000, 0x4E00, 0xAC00, 0x1F300])
            out.append("".join(c if unicodedata.category(c)[0] != "C" else " " for c in (chr(low + rng.randrange(0x100)) for _ in range(n))))
        elif kind == 6:
            out.append("".join(rng.choice(tokens + ["a", " ", "text", " text ", "\n"]) for _ in range(1 + n // 4)))
        elif kind == 7:
            out.append("".join(str(rng.randrange(10 ** rng.randrange(1, 12))) + rng.choice(["", " ", ".", ",", "a", "%"]) for _ in range(1 + n // 4)))
        else:
            word = rng.choice(WORDS[rng.choice(list(WORDS))])
            cut = rng.randrange(len(word) + 1)
            out.append(word[cut:] + word * rng.randrange(3) + rng.choice(PUNCTUATION) + word[:cut].upper())


def strings():
    rng = random.Random(2)
    tokens = [t.content for t in added_tokens()]
    every = assigned()
    out = list(EDGES)
    white_space_around(rng, out, tokens)
    random_strings(rng, out, 6200, every, tokens)
    code_points(out)
    assert len(out) >= 10000, len(out)
    return out


# ---- kinds ----

def byte_level(pre, vocabulary=900):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre
    tokenizer.train_from_iterator(corpus(), trainers.BpeTrainer(vocab_size=vocabulary, show_progress=False,
                                  initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())))
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def finish(tokenizer, edit=None):
    tokenizer.add_tokens(added_tokens())
    document = json.loads(tokenizer.to_str())
    if edit:
        edit(document)
    return Tokenizer.from_str(json.dumps(document))


def split(pattern, behavior="isolated", invert=False):
    return pre_tokenizers.Split(Regex(pattern), behavior, invert)


BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
O200K = "|".join([
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"\p{N}{1,3}", r" ?[^\s\p{L}\p{N}]+[\r\n/]*", r"\s*[\r\n]+", r"\s+(?!\S)", r"\s+"])
DEEPSEEK3 = [r"\p{N}{1,3}", "[一-龥\u3040-ゟ゠-ヿ]+",
             "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"]
CASED = "".join(a if a == b else a + "-" + b for a, b in [("A", "Z"), ("a", "z"), ("\u00b5", "\u00b5"), ("\u00c0", "\u00d6"),
        ("\u00d8", "\u00f6"), ("\u00f8", "\u01ba"), ("\u0370", "\u0373"), ("\u0386", "\u0386"), ("\u0388", "\u038a"),
        ("\u038e", "\u03a1"), ("\u03a3", "\u03f5"), ("\u0400", "\u0481"), ("\u048a", "\u052f"), ("\u1e00", "\u1f15")])
DEEPSEEK_LLM = ["[\r\n]", r"\s?[" + CASED + "]+", "\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+", r"\s+$", "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"]


def template(tokenizer, single, names):
    tokenizer.post_processor = processors.TemplateProcessing(single=single, special_tokens=[(n, tokenizer.token_to_id(n)) for n in names])


def gpt2():
    return finish(byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False)), lambda d: d.update(
        post_processor={"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}))


def roberta():
    tokenizer = byte_level(pre_tokenizers.ByteLevel(add_prefix_space=True))
    tokenizer.add_tokens(added_tokens())
    tokenizer.post_processor = processors.RobertaProcessing(("<|end|>", tokenizer.token_to_id("<|end|>")), ("<|begin|>", tokenizer.token_to_id("<|begin|>")))
    return Tokenizer.from_str(tokenizer.to_str())


def llama3():
    tokenizer = byte_level(pre_tokenizers.Sequence([split(LLAMA3), BYTES]))
    def edit(d):
        d["model"]["ignore_merges"] = True
        d["model"]["merges"] = d["model"]["merges"][:-80]  # tokens that only ignore_merges reaches
        ids = {t["content"]: t["id"] for t in d["added_tokens"]}
        d["post_processor"] = {"type": "Sequence", "processors": [
            {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True},
            {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<|begin|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
             "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
             "special_tokens": {"<|begin|>": {"id": "<|begin|>", "ids": [ids["<|begin|>"]], "tokens": ["<|begin|>"]}}}]}
    return finish(tokenizer, edit)


def qwen2():
    tokenizer = byte_level(pre_tokenizers.Sequence([split(QWEN2), BYTES]))
    tokenizer.normalizer = normalizers.NFC()
    return finish(tokenizer)


def deepseek3():
    tokenizer = byte_level(pre_tokenizers.Sequence([split(p) for p in DEEPSEEK3] + [BYTES]))
    tokenizer.add_tokens(added_tokens())
    template(tokenizer, "<|begin|> $A", ["<|begin|>"])
    return Tokenizer.from_str(tokenizer.to_str())


def deepseek_llm():
    return finish(byte_level(pre_tokenizers.Sequence([split(p) for p in DEEPSEEK_LLM] + [pre_tokenizers.Digits(True), BYTES])))


def gpt_oss():
    return finish(byte_level(pre_tokenizers.Sequence([split(O200K), BYTES])))


def falcon():
    return finish(byte_level(pre_tokenizers.Sequence([pre_tokenizers.Punctuation("contiguous"), pre_tokenizers.ByteLevel(add_prefix_space=False),
                  pre_tokenizers.Digits(False), split("[0-9][0-9][0-9]")])))


def with_bytes(document, fuse):
    """Puts <unk>, <s>, </s> and the 256 bytes before a BPE vocabulary of characters."""
    names = ["<unk>", "<s>", "</s>"] + ["<0x%02X>" % b for b in range(256)]
    old = [t for t, _ in sorted(document["model"]["vocab"].items(), key=lambda x: x[1]) if t not in names]
    document["model"].update(vocab={t: i for i, t in enumerate(names + old)}, unk_token="<unk>", fuse_unk=fuse, byte_fallback=True)
    added = [dict(id=i, content=n, single_word=False, lstrip=False, rstrip=False, normalized=False, special=True) for i, n in enumerate(names[:3])]
    document["added_tokens"] = added


def characters(pre, normalizer=None, vocabulary=900):
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre
    tokenizer.train_from_iterator(corpus(), trainers.BpeTrainer(vocab_size=vocabulary, special_tokens=["<unk>"], show_progress=False))
    return json.loads(tokenizer.to_str())


LLAMA_DECODER = {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": MARK}, "content": " "}, {"type": "ByteFallback"},
                 {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}


def llama2():
    document = characters(pre_tokenizers.Metaspace(), vocabulary=900)
    with_bytes(document, fuse=True)
    document.update(pre_tokenizer=None, decoder=LLAMA_DECODER, normalizer={"type": "Sequence", "normalizers": [
        {"type": "Prepend", "prepend": MARK}, {"type": "Replace", "pattern": {"String": " "}, "content": MARK}]})
    tokenizer = Tokenizer.from_str(json.dumps(document))
    tokenizer.add_tokens(added_tokens())
    template(tokenizer, "<s> $A", ["<s>"])
    return Tokenizer.from_str(tokenizer.to_str())


def mixtral():
    document = characters(pre_tokenizers.Metaspace(), vocabulary=900)
    with_bytes(document, fuse=False)
    document.update(decoder=LLAMA_DECODER, pre_tokenizer={"type": "Metaspace", "replacement": MARK, "prepend_scheme": "first", "split": False})
    tokenizer = Tokenizer.from_str(json.dumps(document))
    tokenizer.add_tokens(added_tokens())
    template(tokenizer, "<s> $A </s>", ["<s>", "</s>"])
    return Tokenizer.from_str(tokenizer.to_str())


def sentencepiece_model(**options):
    with tempfile.TemporaryDirectory() as folder:
        text = os.path.join(folder, "text")
        with open(text, "w") as file:
            file.write("\n".join(line.replace("\n", " ").replace("\r", " ") for line in corpus()))
        sentencepiece.SentencePieceTrainer.train(input=text, model_prefix=os.path.join(folder, "m"), minloglevel=2, num_threads=1, **options)
        model = sentencepiece_model_pb2.ModelProto()
        with open(os.path.join(folder, "m.model"), "rb") as file:
            data = file.read()
        model.ParseFromString(data)
        return model, data


def charsmap(model):
    import base64

    return {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(model.normalizer_spec.precompiled_charsmap).decode()}


def unigram(model, byte_fallback=False):
    return {"type": "Unigram", "unk_id": model.trainer_spec.unk_id, "vocab": [[p.piece, p.score] for p in model.pieces], "byte_fallback": byte_fallback}


def document_of(model_json, **parts):
    return dict(version="1.0", truncation=None, padding=None, added_tokens=[], normalizer=None, pre_tokenizer=None, post_processor=None,
                decoder=None, model=model_json) | parts


METASPACE = {"type": "Metaspace", "replacement": MARK, "prepend_scheme": "always", "split": True}


def t5():
    model, _ = sentencepiece_model(model_type="unigram", vocab_size=900, normalization_rule_name="nmt_nfkc", pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
    tokenizer = Tokenizer.from_str(json.dumps(document_of(unigram(model), normalizer={"type": "Sequence", "normalizers": [charsmap(model)]},
        pre_tokenizer={"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, METASPACE]}, decoder=METASPACE)))
    tokenizer.add_tokens(added_tokens())
    template(tokenizer, "$A </s>", ["</s>"])
    return Tokenizer.from_str(tokenizer.to_str())


def nllb():
    model, _ = sentencepiece_model(model_type="bpe", vocab_size=900, normalization_rule_name="nmt_nfkc_cf", bos_id=0, pad_id=1, eos_id=2, unk_id=3)
    document = characters(pre_tokenizers.Metaspace(), normalizer=None)
    document.update(normalizer={"type": "Sequence", "normalizers": [charsmap(model), {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}]},
                    pre_tokenizer=METASPACE, decoder=METASPACE, added_tokens=[])
    document["model"].update(fuse_unk=True)
    tokenizer = Tokenizer.from_str(json.dumps(document))
    tokenizer.add_tokens(added_tokens())
    template(tokenizer, "<|begin|> $A <|end|>", ["<|begin|>", "<|end|>"])
    return Tokenizer.from_str(tokenizer.to_str())


def odd_unigram():
    """What no common vocabulary uses together: every normaliser, Metaspace first, byte fallback."""
    model, _ = sentencepiece_model(model_type="unigram", vocab_size=1100, normalization_rule_name="identity", byte_fallback=True)
    tokenizer = Tokenizer.from_str(json.dumps(document_of(unigram(model, True), decoder={"type": "Sequence", "decoders": [
        {"type": "ByteFallback"}, {"type": "Metaspace", "replacement": MARK, "prepend_scheme": "first", "split": True},
        {"type": "Replace", "pattern": {"Regex": "[xX]+"}, "content": "<x>"}]})))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase(), normalizers.Strip(left=True, right=True),
                                                 normalizers.Replace(Regex(r"\s+"), " "), normalizers.Replace("ab", "b")])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split(r"[.!?]", "merged_with_previous"), split(r"[#$]", "merged_with_next"),
        split(r"\w+|[^\w\s]", "removed", True), pre_tokenizers.Digits(True), pre_tokenizers.Metaspace(prepend_scheme="first")])
    return finish(tokenizer)


def odd_bpe():
    """Decompositions, unknown tokens one by one, other cuts, and no decoder."""
    document = characters(pre_tokenizers.Whitespace())
    document["model"].update(fuse_unk=False)
    tokenizer = Tokenizer.from_str(json.dumps(document))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKD(), normalizers.NFD(), normalizers.Strip(left=False, right=True)])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.Punctuation("merged_with_next"),
        pre_tokenizers.Split("ab", "contiguous"), split(r"\b|(?=\d)", "isolated"), pre_tokenizers.Digits(False)])
    tokenizer.add_tokens(added_tokens())
    tokenizer.post_processor = processors.BertProcessing(("<|end|>", tokenizer.token_to_id("<|end|>")), ("<|begin|>", tokenizer.token_to_id("<|begin|>")))
    return Tokenizer.from_str(tokenizer.to_str())


KINDS = [gpt2, roberta, llama3, qwen2, deepseek3, deepseek_llm, gpt_oss, falcon, llama2, mixtral, t5, nllb, odd_unigram, odd_bpe]


# ---- writing ----

def write(name, data):
    with open(os.path.join(OUT, name), "wb") as file:
        file.write(gzip.compress(data, 9, mtime=0))


def pack(ids):
    return struct.pack("<%dH" % len(ids), *ids)


def records(texts, ids, decoded, skipped, as_text):
    out = io.BytesIO()
    for k in range(len(texts)):
        parts = (pack(ids[k]), decoded[k].encode(), skipped[k].encode(), pack(as_text[k]))
        out.write(struct.pack("<4I", *map(zlib.crc32, parts)))
        if k < FULL:
            out.write(struct.pack("<H", len(ids[k])) + parts[0])
    return out.getvalue()


def released(make, texts):
    tokenizer = make()
    document = json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False, separators=(",", ":")).encode()
    ids = [e.ids for e in tokenizer.encode_batch(texts)]
    decoded = [tokenizer.decode(i, skip_special_tokens=False) for i in ids]
    skipped = [tokenizer.decode(i, skip_special_tokens=True) for i in ids]
    tokenizer.encode_special_tokens = True
    as_text = [e.ids for e in tokenizer.encode_batch(texts, add_special_tokens=False)]
    write(make.__name__ + ".gz", struct.pack("<I", len(document)) + document + records(texts, ids, decoded, skipped, as_text))


def sentencepiece_kind(texts):
    """A vocabulary such as Llama's and Mixtral's in a GGUF file, against the sentencepiece library itself."""
    model, data = sentencepiece_model(model_type="bpe", vocab_size=1100, normalization_rule_name="identity", byte_fallback=True,
                                      remove_extra_whitespaces=False, split_digits=True, allow_whitespace_only_pieces=True)
    processor = sentencepiece.SentencePieceProcessor(model_proto=data)
    document = json.dumps({"tokens": [p.piece for p in model.pieces], "scores": [p.score for p in model.pieces],
                           "types": [int(p.type) for p in model.pieces]}, ensure_ascii=False, separators=(",", ":")).encode()
    clean = [t for t in texts]
    ids = [processor.encode(t) for t in clean]
    decoded = [processor.decode(i) for i in ids]
    write("sentencepiece.gz", struct.pack("<I", len(document)) + document + records(clean, ids, decoded, decoded, ids))


def main():
    os.makedirs(OUT, exist_ok=True)
    texts = strings()
    blob = struct.pack("<I", len(texts)) + b"".join(struct.pack("<I", len(t.encode())) + t.encode() for t in texts)
    write("strings.gz", blob)
    wanted = sys.argv[1:]
    for make in KINDS:
        if not wanted or make.__name__ in wanted:
            released(make, texts)
    if not wanted or "sentencepiece" in wanted:
        sentencepiece_kind(texts)
    with open(os.path.join(OUT, "versions.json"), "w") as file:
        json.dump({"python": sys.version.split()[0], "unicodedata": unicodedata.unidata_version, "tokenizers": tokenizers.__version__,
                   "sentencepiece": sentencepiece.__version__, "strings": len(texts)}, file, indent=2)
        file.write("\n")


if __name__ == "__main__":
    main()
