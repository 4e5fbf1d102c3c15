"""Japanese sentences from templates: statements, questions, requests, talk, numbers, foreign words."""

from __future__ import annotations

import re

import numpy as np

from .sentences import HELDOUT_SHARE, Split

_WORDS = {
    "noun": """りんご 朝ごはん 椅子 犬 医者 映画 絵 鉛筆 お金 お茶 弟 音楽 鏡 傘 家族 鞄 紙 髪
    カメラ 川 着物 切符 牛乳 靴 車 桜 魚 砂糖 皿 猿 塩 自転車 辞書 写真 宿題 手紙 新聞 水 世界
    石鹸 先生 空 大使館 卵 建物 机 月 手袋 電車 電話 動物 時計 友達 鳥 肉 荷物 庭 人形 猫 眠り
    飲み物 橋 花 話 箱 番組 飛行機 病気 昼ごはん 封筒 服 船 部屋 帽子 本 窓 漫画 水玉 緑 港 店
    味噌汁 昔話 虫 娘 眼鏡 森 野菜 山 夕焼け 雪 指輪 夢 洋服 冷蔵庫 料理 歴史 牛肉 兎 うどん
    扇風機 温泉 学校 狐 くじら 景色 声 氷 言葉 財布 三日月 地図 太陽 竹 茶碗 翼 手品 鉄道 豆腐 虹
    布団 文化 百科事典 ひまわり 風船 蛇 星 牧場 湖 紫陽花 約束 雷 林檎 列車 蝋燭 笑顔 コーヒー
    ケーキ テレビ パソコン ギター バス ホテル レストラン チョコレート ピアノ サッカー ロボット
    ニュース ゲーム カレンダー スーパー ズボン セーター ハンバーガー ファッション ヴァイオリン
    ティッシュ フォーク ウェブサイト""",
    "person": """田中さん 鈴木さん 佐藤さん 高橋さん 伊藤さん 渡辺さん 山本さん 中村さん 小林さん
    加藤さん 吉田さん 山田君 松本先生 井上さん 木村さん 清水君 林さん 斎藤先生 森さん 池田さん
    橋本さん ゆきちゃん けん君 はなこさん 太郎 次郎 母 父 兄 姉 妹 祖母 祖父 社長 隣の人 店員さん
    お巡りさん ジョンさん メアリーさん""",
    "place": """家 学校 駅 公園 図書館 病院 銀行 空港 海 台所 庭 東京 京都 大阪 北海道 沖縄
    名古屋 パリ ロンドン ニューヨーク 山の上 橋の下 会社 美術館 動物園 教室 郵便局 お寺 神社
    市役所 川のそば 交差点 映画館 喫茶店 屋根の上 月の裏側 二階 地下鉄の中 森の奥""",
    "time": """今日 昨日 明日 今朝 今晩 来週 先週 来月 去年 毎日 毎朝 時々 いつも 月曜日に
    火曜日に 水曜日に 木曜日に 金曜日に 土曜日に 日曜日に 夏休みに 冬に 春に 秋に 子供の時 さっき
    夜中に お正月に もうすぐ しばらく前に""",
    "adjective": """赤い 青い 白い 黒い 大きい 小さい 新しい 古い 高い 安い 暑い 寒い 美味しい
    甘い 辛い 面白い 難しい 易しい 長い 短い 重い 軽い 早い 遅い 明るい 暗い 美しい 可愛い 珍しい
    優しい 静かな 賑やかな 有名な 綺麗な 便利な 大切な 元気な 不思議な 丈夫な 立派な 素敵な
    簡単な 複雑な 新鮮な""",
    "state": """赤い 大きい 小さい 新しい 古い 高い 安い 暑い 寒い 美味しい 面白い 難しい 長い
    重い 明るい 優しい 静か 賑やか 有名 綺麗 便利 大切 元気 不思議 丈夫 立派 素敵 簡単""",
    "verb": """食べ 見 買い 売り 読み 書き 聞き 作り 洗い 運び 探し 見つけ 忘れ 覚え 習い 教え
    借り 貸し 送り 選び 持ってき 片付け 並べ 調べ 描き 直し 壊し 使い 始め 続け 比べ 集め 開け
    閉め 押し 引き 準備し 説明し 紹介し 練習し 掃除し""",
    "adverb": """ゆっくり すぐに とても 少し 静かに 急いで きっと たぶん もちろん 残念ながら
    やっぱり ちょっと 本当に 実は 一生懸命 もう一度 初めて 一緒に そっと はっきり""",
    "foreign": """NASA DVD USB Tシャツ Wi-Fi JR CD Google YouTube Python AI OK PDF NHK Amazon
    iPhone""",
}
_TEMPLATES = """
{person}は{time}{place}で{noun}を{verb}ました。
{time}、{adjective}{noun}を{verb}ました。
{person}、{noun}を{verb}ましたか？
すみません、{place}はどこですか？
この{noun}は{state}ですね。
あの{adjective}{noun}は誰のですか？
{noun}と{noun}と、どちらが{state}ですか？
もし{noun}が{state}なら、{person}も{verb}ます。
{person}は{adverb}{noun}を{verb}ています。
おはようございます、{person}。{time}は{state}ですね。
こんにちは！私は{person}の友達です。
ありがとうございます。この{noun}はとても{state}です。
ごめんなさい、{noun}を{verb}ませんでした。
わあ、なんて{adjective}{noun}でしょう！
{place}に{adjective}{noun}があります。
{time}{place}へ行って、{noun}を{verb}たいです。
{noun}を{verb}てください。
{person}、{adverb}{noun}を{verb}てくれませんか？
{noun}は{count}円です。
{place}まで{count}分かかります。
私の誕生日は{month}月{day}日です。
{hour}時{minute}分の電車に乗りました。
{noun}が{small}つと、{noun}が{small}つあります。
会議は午後{hour}時から、{place}で始まります。
{noun}を{verb}ながら、{noun}の話をしました。
{person}が{verb}た{noun}は、{adjective}{noun}でした。
どうして{person}は{noun}を{verb}ないのですか？
{noun}なんて、{verb}たことがありません。
{adverb}、{noun}よりも{noun}のほうが好きです。
ねえ、{person}、{noun}って知ってる？
えっ、{noun}が{state}って、本当に？
うん、{time}{noun}を{verb}たよ。
{foreign}の{noun}を{verb}ました。
この{noun}は{foreign}で見つけました。
{person}によると、{noun}は{state}だそうです。
昔々、{place}に{adjective}{noun}がいました。
{noun}も{noun}も、{person}が{verb}ました。
失礼します。{person}はいらっしゃいますか？
{time}の{noun}は{state}でしょうか？
{percent}パーセントの人が、{noun}を{verb}ています。
やった！{noun}を{verb}た！
いいえ、{noun}ではなく、{noun}です。
はい、{time}{verb}ます。
""".strip().splitlines()
_TE_TA = {
    "い": "っ",
    "ち": "っ",
    "り": "っ",
    "み": "ん",
    "び": "ん",
    "に": "ん",
    "き": "い",
    "ぎ": "い",
}
_ACTIONS = ("準備", "説明", "紹介", "練習", "掃除")
"""They make verbs with する."""
_RU_VERBS = (
    *("食べ", "見", "見つけ", "忘れ", "覚え", "教え", "借り", "片付け", "並べ", "調べ"),
    *("始め", "続け", "比べ", "集め", "開け", "閉め"),
)


class JapaneseSentenceMaker:
    """Draws sentences; some nouns and people occur in development, some in test sentences only."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng([seed, 19])
        words = {kind: text.split() for kind, text in _WORDS.items()}
        self.words: dict[Split, dict[str, list[str]]] = {"development": {}, "test": {}}
        """Those of one split alone, by kind."""
        for kind in ("noun", "person"):
            draws = rng.random(len(words[kind]))
            pairs = list(zip(words[kind], draws, strict=True))
            self.words["development"][kind] = [w for w, d in pairs if d < HELDOUT_SHARE / 2]
            tested = [w for w, d in pairs if HELDOUT_SHARE / 2 <= d < HELDOUT_SHARE]
            self.words["test"][kind] = tested
            words[kind] = [w for w, d in pairs if d >= HELDOUT_SHARE]
        self._words = words

    def sentence(self, rng: np.random.Generator, split: Split) -> str:
        """A sentence of `split`."""
        template = str(rng.choice(_TEMPLATES))
        # A verb changes with what follows its stem.
        return re.sub(
            r"\{(\w+)\}(ませ|まし|ます|ながら|たい|て|た|ない)?",
            lambda match: self._fill(match[1], match[2] or "", rng, split),
            template,
        )

    def _fill(self, kind: str, after: str, rng: np.random.Generator, split: Split) -> str:
        if kind not in self._words:
            return _number(kind, rng) + after
        own = self.words.get(split, {}).get(kind, ())
        pool = own if own and rng.random() < 0.5 else self._words[kind]
        word = str(rng.choice(pool))
        return inflected(word, after) if kind == "verb" else word + after


def inflected(stem: str, ending: str) -> str:
    """A verb by its stem before ます, with another ending: 書き and て are 書いて."""
    if ending not in ("て", "た", "ない") or stem in _RU_VERBS or stem[:-1] in _ACTIONS:
        return stem + ending
    if stem == "持ってき":
        return "持ってこない" if ending == "ない" else stem + ending
    if ending == "ない":
        row = dict(zip("いきぎしちにびみり", "わかがさたなばまら", strict=True))
        return stem[:-1] + row[stem[-1]] + ending
    if stem[-1] == "し":  # 貸し and its like
        return stem + ending
    voiced = stem[-1] in "ぎみびに"
    ending = {"て": "で", "た": "だ"}[ending] if voiced else ending
    return stem[:-1] + _TE_TA[stem[-1]] + ending


def _number(kind: str, rng: np.random.Generator) -> str:
    low, high = {
        "count": (2, 3000), "month": (1, 12), "day": (1, 31), "hour": (1, 12), "minute": (1, 59),
        "small": (2, 9), "percent": (3, 99),
    }[kind]  # fmt: skip
    return str(rng.integers(low, high + 1))
