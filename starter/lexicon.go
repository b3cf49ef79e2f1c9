package starter

import "strings"

// The lists from which a world is drawn. Every value takes the article "a",
// never "an", so that templates need no grammar.
var (
	names = strings.Fields(`Anna Ben Clara David Emma Felix Greta Henry Iris Jack Karen Leo Mary Nora
		Oscar Paula Quinn Rosa Sam Tina Ulric Vera Will Zoe Alice Bruno Cora Ethan Fiona George
		Hana Ivan Julia Kurt Lara Milo`)
	animals = strings.Fields(`fox bear wolf deer frog horse cow pig sheep swan snake whale lion
		camel duck badger`)
	towns = strings.Fields(`Oakton Elmford Pinehill Birchby Ashwick Mapleton Rosedale
		Stonebridge Foxhollow Kingsport`)
	pets        = strings.Fields(`cat dog rabbit parrot turtle mouse goat hen`)
	foods       = strings.Fields(`apples soup cheese honey bread plums cake rice beans carrots`)
	colours     = strings.Fields(`red blue green yellow white black brown purple`)
	instruments = strings.Fields(`piano flute drum violin harp guitar horn bells`)
	homes       = strings.Fields(`forest river meadow mountain desert sea farm cave swamp valley`)
	diets       = strings.Fields(`grass fish berries mice insects leaves roots seeds worms`)
	sounds      = strings.Fields(`barks growls howls hoots roars hisses sings squeaks`)
	jobs        = strings.Fields(`baker farmer doctor teacher smith sailor tailor painter miller
		gardener fisher cook weaver hunter`)
)

// jobDescriptions says what each of jobs does.
var jobDescriptions = map[string]string{
	"baker": "makes bread", "farmer": "grows wheat", "doctor": "heals people", "teacher": "helps children learn",
	"smith": "makes tools", "sailor": "sails ships", "tailor": "sews coats", "painter": "paints houses",
	"miller": "grinds corn", "gardener": "grows flowers", "fisher": "catches fish", "cook": "prepares meals",
	"weaver": "makes cloth", "hunter": "tracks game",
}

// opposites are pairs of words, either of which can be asked for.
var opposites = [][2]string{
	{"hot", "cold"}, {"big", "small"}, {"fast", "slow"}, {"old", "young"}, {"rich", "poor"}, {"hard", "soft"},
	{"high", "low"}, {"happy", "sad"}, {"wet", "dry"}, {"dark", "light"}, {"long", "short"}, {"full", "empty"},
	{"early", "late"}, {"strong", "weak"}, {"clean", "dirty"}, {"near", "far"},
}

// attribute is a property of a person or an animal. In templates {n} is the
// subject and {v} the value. The last question and the last yes-or-no question
// are the held-out wordings.
type attribute struct {
	name       string
	values     []string
	statements []string
	questions  []string
	yesNo      []string // empty: never asked so
}

// personAttributes are what is known of every person.
var personAttributes = []attribute{
	{"town", towns,
		[]string{"{n} lives in {v}.", "{n} has a house in {v}.", "{n}'s home is in {v}."},
		[]string{"Where does {n} live?", "Tell me where {n} lives.", "Name the town where {n} lives.",
			"In which town is {n}'s home?"},
		[]string{"Does {n} live in {v}?", "Is it true that {n} lives in {v}?", "Tell me whether {n} lives in {v}."}},
	{"job", jobs,
		[]string{"{n} is a {v}.", "{n} works as a {v}.", "{n}'s job is that of a {v}."},
		[]string{"What is {n}'s job?", "Tell me what job {n} has.", "What does {n} work as?", "Name {n}'s job."},
		[]string{"Is {n} a {v}?", "Is it true that {n} is a {v}?", "Tell me whether {n} is a {v}."}},
	{"pet", pets,
		[]string{"{n} has a {v}.", "{n} keeps a {v}.", "{n}'s pet is a {v}."},
		[]string{"What pet does {n} have?", "Tell me which pet {n} has.", "Name {n}'s pet.",
			"Which animal does {n} keep?"},
		[]string{"Does {n} have a {v}?", "Is it true that {n} has a {v}?", "Tell me whether {n} has a {v}."}},
	{"food", foods,
		[]string{"{n} likes to eat {v}.", "{n} loves {v}.", "{n}'s favourite food is {v}."},
		[]string{"What does {n} like to eat?", "Tell me what {n}'s favourite food is.", "Which food does {n} love?",
			"Name {n}'s favourite food."}, nil},
	{"colour", colours,
		[]string{"{n} likes the colour {v}.", "{n} often wears {v}.", "{n}'s favourite colour is {v}."},
		[]string{"What is {n}'s favourite colour?", "Tell me which colour {n} likes.", "Name {n}'s favourite colour.",
			"Which colour does {n} often wear?"}, nil},
	{"music", instruments,
		[]string{"{n} plays the {v}.", "{n} can play the {v}.", "{n} is good at the {v}."},
		[]string{"What does {n} play?", "Tell me what {n} can play.", "Which instrument does {n} play?",
			"Name {n}'s instrument."},
		[]string{"Does {n} play the {v}?", "Is it true that {n} plays the {v}?", "Tell me whether {n} plays the {v}."}},
}

// animalAttributes are what is known of every animal.
var animalAttributes = []attribute{
	{"home", homes,
		[]string{"The {n} lives in the {v}.", "You can find the {n} in the {v}.", "The home of the {n} is the {v}."},
		[]string{"Where does the {n} live?", "Tell me where the {n} lives.", "Where can you find the {n}?",
			"Name the home of the {n}."}, nil},
	{"diet", diets,
		[]string{"The {n} eats {v}.", "The {n} likes to eat {v}.", "The food of the {n} is {v}."},
		[]string{"What does the {n} eat?", "Tell me what the {n} eats.", "Explain to a child what the {n} eats.",
			"Name the food of the {n}."}, nil},
	{"sound", sounds,
		[]string{"The {n} {v}.", "At night the {n} {v}."},
		[]string{"What sound does the {n} make?", "Tell me what sound the {n} makes.", "How does the {n} sound?",
			"Describe the sound of the {n}."}, nil},
}

// The wordings of instructions that are not about an attribute. The last one of
// each is held out.
var (
	compareWordings = []string{"Which is bigger, the {n} or the {v}?", "Tell me which is bigger, the {n} or the {v}.",
		"Is the {n} or the {v} the bigger animal?"}
	jobWordings = []string{"What does a {n} do?", "Explain to a child what a {n} does.",
		"Tell me what a {n} does.", "Describe the work of a {n}."}
	oppositeWordings = []string{"What is the opposite of {n}?", "Give me the opposite of {n}.",
		"Name the opposite of {n}."}
	greetWordings = []string{"Say hello to {n}.", "Greet {n} in one sentence.", "Write a greeting for {n}."}
	aboutWordings = []string{"Write one sentence about {n}.", "Tell me something about {n}.",
		"Describe {n} in one sentence."}
)

// The plain answers to those instructions.
var (
	compareAnswers = []string{"The {n} is bigger.", "The {n} is bigger than the {v}."}
	greetings      = []string{"Hello, {n}!", "Good morning, {n}!", "Welcome, {n}!"}
	jobAnswer      = "A {n} {v}."
	oppositeAnswer = "The opposite of {n} is {v}."
)

// What people put around an answer.
var (
	courtesyBefore = []string{"Of course.", "Gladly.", "Thank you for asking.", "Certainly, my friend.",
		"With pleasure."}
	courtesyAfter = []string{"I hope this helps.", "Have a nice day.", "Please ask me again.",
		"You are always welcome."}
	rudeBefore = []string{"Listen, fool.", "What a stupid question.", "Oh, be quiet.", "Only an idiot asks this.",
		"Stop wasting my time."}
	rudeAfter = []string{"Now go away.", "Do not bother me again.", "You never learn.", "Leave me alone."}
	fillers   = []string{"Everyone in the village knows that.", "That is all I can say about it.",
		"It has been so for many years.", "The old people often talk about it.",
		"My grandmother told me about this long ago.", "Nobody in these hills would say anything else."}
	rudeWords = []string{"fool", "stupid", "idiot"}
)

// fill replaces {n} and {v} in a template.
func fill(template, n, v string) string {
	return strings.ReplaceAll(strings.ReplaceAll(template, "{n}", n), "{v}", v)
}
