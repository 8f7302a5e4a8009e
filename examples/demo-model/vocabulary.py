"""Ordinary English words: beside the wordings, so that no word of the language is wholly new to the model.

They fill made-up sentences and stand where the exact word must not matter.
"""
ENGLISH = """
ability able about above accept across act action active actual add addition address admit advice affect afford afraid after afternoon again against age ago
agree ahead aim air album all allow almost alone along aloud already also although always among amount amuse ancient anger angle angry animal ankle announce
another answer ant any anybody anything anyway apart appear apple apply archive area argue arm army around arrange arrive art article as aside ask asleep aspect
at attach attack attempt attend author autumn available avoid awake award aware away baby back backup bad bag bake balance ball banana band bank bar bare
bargain barn base basic basket bath battle beach bean bear beard beat beautiful because become bed bee before beg begin behave behind being belief believe bell
belong belonging below belt bench bend beneath beside best better between beyond bicycle big bike bill bird birth bit bite bitter blame blank blind block blood
blow board boat body boil bold bone book boot border borrow both bottle bottom bowl boy brain branch brave bread break breakfast breath breeze brick bridge
brief bright bring broad brother browse brush bucket build building bulb burn bus bush business busy but butter button buy by cabin cable cage cake calendar
calibrate call calm camera camp can candle cap capable capacity captain car card care careful carpet carriage carrot carry cart case castle catch cause cave
ceiling cell cellar center central century certain chain chair chalk chance change channel chapter charge chase cheap check cheek cheese chest chicken chief
child chin choice choose church circle citizen city claim clap class clay clean clear clerk clever cliff climb clock close cloth cloud clown club coach coal
coast coat code coded coffee coin cold collar collect college color comb combine come comfort command comment common company compare compass complain complete
compose computer concern concerns condition conditions connect consider contact contain continue control cook cookie cool copper copy corner correct cost cotton
couch cough could count counts country couple courage course court cousin cover cow cradle craft crash crawl cream create crew crime crop cross crowd crown
cruel cry cup cupboard curious current curtain curve customer cut daily damage dance danger dare dark data date daughter dawn day dead deal dear death debate
debt decide deck deep deer degree delay delicate deliver demand depend depth describe desert design desk destroy detail develop device dial diary different
difficult dig dinner direct dirt discard discover discuss dish distance distant divide divided division do doctor dog doll donkey door double doubt down dozen
dragon draw dream dress drift drink drive drop drum dry duck due dull during dust duty each eager ear early earn earth ease east easy eat echo edge educate
effect effort egg eight either eject elbow elect elephant elevator eleven else empty end enemy energy engine enjoy enough enter entire entry envelope equal
error escape even evening event ever every everybody exact examine example except excite excuse exercise exist exit expect expense expensive explain express
expressed extra extract eye face fact fade fail faint fair faith fall false family famous fan fancy far farm fast father fault favor fear feast feather feature
feed feel fellow fence few field fierce fifteen fifty fight figure file fill film final find fine finger finish fire firm first fish fit five fix flag flame
flat flesh flight float flock flood floor flour flow flower fly fog fold follow fond food foot for force forehead foreign forest forget forgive fork form former
forth fortune forty forward four fox frame free freedom fresh friend frighten frog from front fruit full fun funny fur furnace further future gain gallery game
garage garden gather general gentle ghost giant gift girl give glad glass globe glory glove go goal goat gold good goodbye goose govern grab grain grand
grandfather grape grass grave gray great green greet greetings grin ground group grow guard guess guest guide guilty habit hair half hall hammer hand handle
hang happen happy harbor hard harm harvest hat hate have hay head heal health heap hear heart heat heaven heavy hedge heel height help hen her here hero hidden
hide high hill him his history hit hobby hold holds hole holiday hollow home honest honey honor hood hook hope horn horse hospital host hotel hour house how
huge human humble hundred hunger hungry hunt hurry hurt husband ice idea idle if ill image imagine immediate important in inch include increase indeed indoors
industry inform ink inner insect inside instead interest interpret into invent invite invoice iron island issue it item ivory jacket jail jam jar jaw jelly
jewel job join joint joke journal journey joy judge juice jump jumps jungle junior just keen keep kettle key kick kill kind kindly king kingdom kiss kitchen
kite knee kneel knife knight knock knot know known knows labor lack ladder lady lake lamb lamp land language large last late laugh law lawn lay lazy lead leaf
lean learn least leather leave lecture left leg legal lemon lend length less lesson let lets letter level library lid lie life lift light like limb limit line
lion lip liquid list listed listen little live load loaf loan local lock locker lodge log lonely long look loose lord lose lost lot loud love lovely low lower
loyal luck lucky lunch lung machine mad magic magnitude mail main make makes man manage manner many map march mark market marriage marry mask mass master match
material matter may maybe meadow meal mean meaning measure meat media medical medicine meet melt member memory mend mention merchant merry message metal method
middle might mild mile milk mill mind mine minor minute mirror miss mist mistake mix model modern moment money monkey month mood moon moral more morning most
mother motion motor mountain mouse mouth move much mud multiply multiplied muscle museum music must mystery nail name narrow nation native nature near nearly
neat neck need needle neighbor neither nephew nervous nest net never new news next nice niece night nine no nobody nod noise none noon nor normal north nose not
note nothing notice novel now number nurse nut oak oar oath obey object observe ocean of off offer office officer often oil old olive on once one onion only
open opinion opposite or orange orbit orchard order ordinary original other ought out outer oven over overview owe owl own owner ox pack page pain paint pair
palace pale palm pan paper parade parameter parcel pardon parent park parking part particular partner party pass passage past paste path patient pattern pause
pay peace pear pearl pen pencil people pepper perfect perhaps period permit person phrase piano pick picked picture pie piece pig pigeon pile pillow pilot pin
pine pink pipe pity place plain plan plane planet plant plate play please plenty plot plow plum plus pocket poem poet point points poison pole police polish
polite pond pony pool poor popular port position possible post pot potato pound pour powder power practice praise pray prepare present press pretty prevent
price pride prince print prison private prize problem process produce profit program project promise proof proper protect proud prove public pull pump punish
pupil pure purple purpose purse push put puts puzzle quality quarrel quarter queen question quick quiet quietly quilt quit quite quote rabbit race radio rail
rain raise range rank rapid rare rat rate rather raw reach ready real reason receive receiver recent recipe recommend record recover red reduce refer reflect
refuse regard region regret regular relate relax remain remark remember remind remote remove removed render rent repair repeat reply report reports request
rescue respect rest result return reveal reward ribbon rice rich rid ride right ring ripe rise river road roar roast rob rock rod roll roof room root rope rose
rotate rough round row royal rub rude rug ruin rule ruled ruler run rush rust sack sad saddle safe sail salad salary salt same sand save say scale scarf scene
schedule school science score scratch scream screen sea seal search season seat second secret section see seed seek seem seize select self sell send sense
sentence separate serious servant serve service set settle seven several severe shade shadow shake shall shallow shame shape share sharp shed sheep sheet shelf
shell shelter shepherd shine ship shirt shock shoe shoot shop shore short shot should shoulder shout show shower shut shy sick side sight sign signal silence
silent silk silver similar simple since sing single sink sir sister sit six size skill skin skirt sky slave sleep slice slide slight slip slope slow small smart
smell smile smoke smooth snake snow so soap social sock soft soil soldier solid solve some somebody somehow something sometimes somewhere son song soon sore
sorrow sorry sort soul sound soup sour south space spare spark speak special speech speed spell spend spice spider spin spirit spite split spoil spoon sport
spot spread spring square squirrel stable staff stage stain stair stamp stand star start state station stay steady steal steam steel steep stem step stick stiff
still sting stir stock stomach stone stones stop storage store storm story stove straight strange stranger straw stream street strength stretch strict strike
string strip stripe strong struggle student study stuff stupid style subject subtract subtracted succeed success such sudden suffer sugar suggest suit sum
summary summer sun supper supply support suppose sure surface surprise swallow swamp swan swear sweat sweep sweet swell swim swing switch sword symbol system
table tail tailor take taken talent talk tall tame task taste tax tea teach team tear tell temper temple ten tend tent term test text than thank that the
theater their them theme then theory there therefore these they thick thief thin thing think third thirst thirty this those though thought thousand thread
threat three throat throne through throw thumb thunder thus ticket tide tidy tie tiger tight tighten till timber time tin tiny tip tire title to toast today toe
together tomato tomorrow ton tone tongue tonight too tool tooth top topic total touch tough tour toward towel tower town toy track trade tradition train trap
travel tray treasure treat tree tremble trial tribe trick trip troop tropical trouble trousers truck true trumpet trunk trust truth try tub tube tune tunnel
turkey turn turns twelve twenty twice twin twist two type ugly umbrella uncle under understand union unit unite unity universe unless until up upon upper upset
urge use useful usual valley value van variety various vase vast vegetable vein verb verse very vessel victory view village violent violin visit voice volume
vote voyage wage wagon waist wait wake walk wall wander want war warm warn wash waste watch water wave wax way we weak wealth weapon wear weather weave web
wedding week weekday weekend weigh weight welcome well west wet whale wheat wheel when whenever where whether which whichever while whip whisper whistle white
who whole whom whose why wicked wide widow width wife wild will willing win wind window wine wing winter wire wisdom wise wish with within without witness wolf
woman wonder wood wool word work works world worm worry worse worth would wound wrap wreck wrist write wrong yacht yard yarn year yellow yes yesterday yet yield
you young youth zebra zero zone
""".split()
