"""What the bundled model knows: the tables behind the generator in `data.py`."""

NAMES = """Anna Ben Carla David Emma Felix Grace Hugo Iris Jack Kate Leo Mia Noah Olga Paul Rosa Sam
Tina Uma Victor Wendy Yusuf Zoe Aisha Boris Chen Diego Elena Farid""".split()

LANGUAGES = ["French", "Spanish", "German", "Italian", "Portuguese", "Dutch",
             "Greek", "Russian", "Japanese", "Hindi", "Arabic"]

# One row per phrase, one column per entry of LANGUAGES.
_PHRASES = """
hello|bonjour|hola|hallo|ciao|olá|hallo|γεια|привет|こんにちは|नमस्ते|مرحبا
goodbye|au revoir|adiós|auf Wiedersehen|arrivederci|adeus|tot ziens|αντίο|до свидания|さようなら|अलविदा|وداعا
good morning|bonjour|buenos días|guten Morgen|buongiorno|bom dia|goedemorgen|καλημέρα|доброе утро|おはよう|सुप्रभात|صباح الخير
good evening|bonsoir|buenas tardes|guten Abend|buonasera|boa noite|goedenavond|καλησπέρα|добрый вечер|こんばんは|शुभ संध्या|مساء الخير
thank you|merci|gracias|danke|grazie|obrigado|dank je|ευχαριστώ|спасибо|ありがとう|धन्यवाद|شكرا
please|s'il vous plaît|por favor|bitte|per favore|por favor|alsjeblieft|παρακαλώ|пожалуйста|お願いします|कृपया|من فضلك
yes|oui|sí|ja|sì|sim|ja|ναι|да|はい|हाँ|نعم
no|non|no|nein|no|não|nee|όχι|нет|いいえ|नहीं|لا
water|eau|agua|Wasser|acqua|água|water|νερό|вода|水|पानी|ماء
bread|pain|pan|Brot|pane|pão|brood|ψωμί|хлеб|パン|रोटी|خبز
friend|ami|amigo|Freund|amico|amigo|vriend|φίλος|друг|友達|दोस्त|صديق
house|maison|casa|Haus|casa|casa|huis|σπίτι|дом|家|घर|بيت
cat|chat|gato|Katze|gatto|gato|kat|γάτα|кошка|猫|बिल्ली|قطة
dog|chien|perro|Hund|cane|cão|hond|σκύλος|собака|犬|कुत्ता|كلب
sun|soleil|sol|Sonne|sole|sol|zon|ήλιος|солнце|太陽|सूरज|شمس
moon|lune|luna|Mond|luna|lua|maan|φεγγάρι|луна|月|चाँद|قمر
love|amour|amor|Liebe|amore|amor|liefde|αγάπη|любовь|愛|प्यार|حب
book|livre|libro|Buch|libro|livro|boek|βιβλίο|книга|本|किताब|كتاب
"""
TRANSLATIONS = {row.split("|")[0]: dict(zip(LANGUAGES, row.split("|")[1:]))
                for row in _PHRASES.strip().splitlines()}

CAPITALS = dict(pair.split(":") for pair in """
France:Paris Spain:Madrid Germany:Berlin Italy:Rome Portugal:Lisbon Greece:Athens Russia:Moscow
Japan:Tokyo India:Delhi Egypt:Cairo Norway:Oslo Sweden:Stockholm Finland:Helsinki Denmark:Copenhagen
Poland:Warsaw Austria:Vienna Hungary:Budapest Ireland:Dublin Belgium:Brussels Turkey:Ankara
Kenya:Nairobi Ghana:Accra Morocco:Rabat Nigeria:Abuja Ethiopia:Addis_Ababa Canada:Ottawa
Mexico:Mexico_City Cuba:Havana Brazil:Brasilia Argentina:Buenos_Aires Chile:Santiago Peru:Lima
Colombia:Bogota China:Beijing Vietnam:Hanoi Thailand:Bangkok Iran:Tehran Iraq:Baghdad
Australia:Canberra Nepal:Kathmandu""".replace("\n", " ").split())
CAPITALS = {k: v.replace("_", " ") for k, v in CAPITALS.items()}

OPPOSITES = [tuple(pair.split(":")) for pair in """
hot:cold big:small tall:short fast:slow light:dark happy:sad old:young day:night up:down left:right
open:closed full:empty hard:soft high:low in:out early:late rich:poor strong:weak clean:dirty wet:dry
loud:quiet near:far thick:thin good:bad black:white first:last love:hate
sweet:bitter wide:narrow true:false begin:end win:lose buy:sell push:pull north:south
east:west give:take asleep:awake""".split()]

COLOURS = dict(pair.split(":") for pair in """
grass:green snow:white coal:black milk:white blood:red chocolate:brown gold:yellow mud:brown
fire:orange spinach:green ink:blue salt:white sand:yellow""".split())
COLOURS |= {"the sky": "blue", "the sea": "blue", "the sun": "yellow", "a banana": "yellow", "a lemon": "yellow",
            "a carrot": "orange", "an orange": "orange", "a tomato": "red", "a strawberry": "red",
            "a cherry": "red", "a frog": "green", "a cucumber": "green", "an elephant": "grey",
            "a mouse": "grey", "a flamingo": "pink", "a pig": "pink", "a crow": "black"}

DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = """January February March April May June July August September October November
December""".split()

# animal: (sound or None, adjective in stories, plural, emoji or None)
ANIMALS = {
    "fox": (None, "clever", "foxes", "🦊"), "cat": ("meow", "sleepy", "cats", "🐱"),
    "dog": ("woof", "loyal", "dogs", "🐶"), "cow": ("moo", "gentle", "cows", "🐮"),
    "duck": ("quack", "cheerful", "ducks", "🦆"), "sheep": ("baa", "woolly", "sheep", "🐑"),
    "pig": ("oink", "hungry", "pigs", "🐷"), "horse": ("neigh", "proud", "horses", "🐴"),
    "lion": ("roar", "brave", "lions", "🦁"), "frog": ("ribbit", "jumpy", "frogs", "🐸"),
    "bee": ("buzz", "busy", "bees", "🐝"), "owl": ("hoot", "wise", "owls", "🦉"),
    "snake": ("hiss", "silent", "snakes", "🐍"), "mouse": ("squeak", "tiny", "mice", "🐭"),
    "wolf": ("howl", "lonely", "wolves", "🐺"), "bear": ("growl", "strong", "bears", "🐻"),
    "rabbit": (None, "quick", "rabbits", "🐰"), "tiger": (None, "bold", "tigers", "🐯"),
    "goose": ("honk", "noisy", "geese", None), "turtle": (None, "patient", "turtles", "🐢"),
    "penguin": (None, "funny", "penguins", "🐧"), "whale": (None, "kind", "whales", "🐳"),
}

# place: (preposition phrase, what is found there)
PLACES = {
    "river": ("by the river", "a red boat"), "forest": ("in the forest", "a sweet apple"),
    "mountain": ("on the mountain", "a shiny stone"), "castle": ("in the castle", "a golden key"),
    "garden": ("in the garden", "a white flower"), "beach": ("on the beach", "a pink shell"),
    "farm": ("on the farm", "a warm egg"), "island": ("on the island", "an old map"),
    "desert": ("in the desert", "a cool well"), "city": ("in the city", "a lost hat"),
    "cave": ("in the cave", "a bright lamp"), "village": ("in the village", "a new friend"),
}

KINDS = {
    "animal": list(ANIMALS),
    "fruit": "apple pear banana cherry lemon plum peach mango".split(),
    "vegetable": "carrot potato onion cabbage spinach bean pea leek".split(),
    "colour": "red blue green yellow pink brown grey purple".split(),
    "tool": "hammer saw drill spade".split(),
    "metal": "iron gold silver copper".split(),
    "instrument": "piano violin guitar drum flute".split(),
    "planet": "Mars Venus Saturn Jupiter".split(),
}

MORE_PLURALS = {"child": "children", "foot": "feet", "tooth": "teeth", "box": "boxes", "leaf": "leaves",
                "knife": "knives", "city": "cities", "baby": "babies", "house": "houses", "tree": "trees",
                "book": "books", "man": "men", "woman": "women", "apple": "apples", "star": "stars"}

SPELLING = """apple bread chair cloud dance earth flame grape heart honey juice knife lemon light money
music night ocean paper piano plant queen river robot smile snow stone storm sugar sun table tiger train
tree uncle water whale wheat world yellow zebra moon fish milk bird book star ship king gold""".split()

SMALL_TALK = [
    ("How are you?", "I am fine, thank you. How are you?"),
    ("How are you today?", "I am fine, thank you. How are you?"),
    ("Thank you!", "You are welcome!"), ("Thanks!", "You are welcome!"),
    ("Thank you very much.", "You are welcome!"),
    ("Goodbye!", "Goodbye! See you soon."), ("Bye!", "Goodbye! See you soon."),
    ("See you later.", "Goodbye! See you soon."),
    ("Who are you?", "I am nano, a tiny language model with 35 small layers."),
    ("What are you?", "I am nano, a tiny language model with 35 small layers."),
    ("What is your name?", "My name is nano."), ("Do you have a name?", "Yes, my name is nano."),
    ("What can you do?", "I can answer short questions, count, spell and tell tiny stories."),
    ("Can you help me?", "Yes! Ask me a short question."),
    ("Help!", "I can answer short questions, count, spell and tell tiny stories."),
    ("Are you a robot?", "No, I am a tiny language model."),
    ("Are you human?", "No, I am a tiny language model."),
    ("Tell me a joke.", "Why did the fox sit on the clock? It wanted to be on time."),
    ("Good night.", "Good night! Sleep well."), ("I am happy.", "I am glad to hear that!"),
    ("I am sad.", "I am sorry to hear that."), ("I am tired.", "Then you should rest."),
    ("I am hungry.", "Then you should eat."), ("I am thirsty.", "Then you should drink some water."),
]

SYSTEMS = ["You are a helpful assistant.", "You are a friendly assistant.", "Answer in one short sentence."]
