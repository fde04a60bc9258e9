"""The 400 actions of Kinetics, in the order of the checkpoints of UniFormer and UMT.

It is not that of the alphabet, which most others have. Quoted from
https://github.com/Sense-X/UniFormer, commit 588f861 (Apache-2.0), file
video_classification/data_list/k400/kinetics_400_categroies.txt: a checkpoint's outputs have these
places.
"""

from __future__ import annotations

_NAMES = """
riding a bike, marching, dodgeball, playing cymbals, checking tires, roller skating, tasting beer,
clapping, drawing, juggling fire, bobsledding, petting animal (not cat), spray painting, training
dog, eating watermelon, building cabinet, applauding, playing harp, balloon blowing, sled dog
racing, wrestling, pole vault, hurling (sport), riding scooter, shearing sheep, sweeping floor,
eating carrots, skateboarding, dunking basketball, disc golfing, eating spaghetti, playing flute,
riding mechanical bull, making sushi, trapezing, picking fruit, stretching leg, playing ukulele,
tying tie, skydiving, playing cello, jumping into pool, shooting goal (soccer), trimming trees,
bookbinding, ski jumping, walking the dog, riding unicycle, shaving head, hopscotch, playing
piano, parasailing, bartending, kicking field goal, finger snapping, dining, yawning, peeling
potatoes, canoeing or kayaking, front raises, laughing, dancing macarena, digging, reading
newspaper, hitting baseball, clay pottery making, exercising with an exercise ball, playing
saxophone, shooting basketball, washing hair, lunge, brushing hair, curling hair, kitesurfing,
tapping guitar, bending back, skipping rope, situp, folding paper, cracking neck, assembling
computer, cleaning gutters, blowing out candles, shaking hands, dancing gangnam style,
windsurfing, tap dancing, skiing (not slalom or crosscountry), bandaging, push up, doing nails,
punching person (boxing), bouncing on trampoline, scrambling eggs, singing, cleaning floor,
krumping, drumming fingers, snowmobiling, gymnastics tumbling, headbanging, catching or throwing
frisbee, riding elephant, bee keeping, feeding birds, snatch weight lifting, mowing lawn, fixing
hair, playing trumpet, flying kite, crossing river, swinging legs, sanding floor, belly dancing,
sneezing, clean and jerk, side kick, filling eyebrows, shuffling cards, recording music,
cartwheeling, feeding fish, folding clothes, water skiing, tobogganing, blowing leaves, smoking,
unboxing, tai chi, waxing legs, riding camel, slapping, tossing salad, capoeira, playing cards,
playing organ, playing violin, playing drums, tapping pen, vault, shoveling snow, playing tennis,
getting a tattoo, making a sandwich, making tea, grinding meat, squat, eating doughnuts, ice
fishing, snowkiting, kicking soccer ball, playing controller, giving or receiving award, welding,
throwing discus, throwing axe, ripping paper, swimming butterfly stroke, air drumming, blowing
nose, hockey stop, taking a shower, bench pressing, planting trees, pumping fist, climbing tree,
tickling, high kick, waiting in line, slacklining, tango dancing, hurdling, carrying baby,
celebrating, sharpening knives, passing American football (in game), headbutting, playing
recorder, brush painting, garbage collecting, robot dancing, shredding paper, pumping gas, rock
climbing, hula hooping, braiding hair, opening present, texting, decorating the christmas tree,
answering questions, playing keyboard, writing, bungee jumping, sniffing, eating burger, playing
accordion, making pizza, playing volleyball, tasting food, pushing cart, spinning poi, cleaning
windows, arm wrestling, changing oil, swimming breast stroke, tossing coin, deadlifting,
hoverboarding, cutting watermelon, cheerleading, snorkeling, washing hands, eating cake, pull ups,
surfing water, eating hotdog, holding snake, playing harmonica, ironing, cutting nails, golf
chipping, shot put, hugging, playing clarinet, faceplanting, trimming or shaving beard, drinking
shots, riding mountain bike, tying bow tie, swinging on something, skiing crosscountry, unloading
truck, cleaning pool, jogging, ice climbing, mopping floor, making bed, diving cliff, washing
dishes, grooming dog, weaving basket, frying vegetables, stomping grapes, moving furniture,
cooking sausages, doing laundry, dying hair, knitting, reading book, baby waking up, punching bag,
surfing crowd, cooking chicken, pushing car, springboard diving, swing dancing, massaging legs,
beatboxing, breading or breadcrumbing, somersaulting, brushing teeth, stretching arm, juggling
balls, massaging person's head, eating ice cream, extinguishing fire, hammer throw, whistling,
crawling baby, using remote controller (not gaming), playing cricket, opening bottle, playing
xylophone, motorcycling, driving car, exercising arm, passing American football (not in game),
playing kickball, sticking tongue out, flipping pancake, catching fish, eating chips, shaking
head, sword fighting, playing poker, cooking on campfire, doing aerobics, paragliding, using
segway, folding napkins, playing bagpipes, gargling, skiing slalom, strumming guitar, javelin
throw, waxing back, riding or walking with horse, plastering, long jump, parkour, wrapping
present, egg hunting, archery, cleaning toilet, swimming backstroke, snowboarding, catching or
throwing baseball, massaging back, blowing glass, playing guitar, playing chess, golf driving,
presenting weather forecast, rock scissors paper, high jump, baking cookies, using computer,
washing feet, arranging flowers, playing bass guitar, spraying, cutting pineapple, waxing chest,
auctioning, jetskiing, drinking, busking, playing monopoly, salsa dancing, waxing eyebrows,
watering plants, zumba, chopping wood, pushing wheelchair, carving pumpkin, building shed, making
jewelry, catching or throwing softball, bending metal, ice skating, dancing charleston, abseiling,
climbing a rope, crying, cleaning shoes, dancing ballet, driving tractor, triple jump, throwing
ball, getting a haircut, running on treadmill, climbing ladder, blasting sand, playing trombone,
drop kicking, country line dancing, changing wheel, feeding goats, tying knot (not on a tie),
setting table, shaving legs, kissing, riding mule, counting money, laying bricks, barbequing, news
anchoring, smoking hookah, cooking egg, peeling apples, yoga, sharpening pencil, dribbling
basketball, petting cat, playing ice hockey, milking cow, shining shoes, juggling soccer ball,
scuba diving, playing squash or racquetball, drinking beer, sign language interpreting, playing
basketball, breakdancing, testifying, making snowman, golf putting, playing didgeridoo, biking
through snow, sailing, jumpstyle dancing, water sliding, grooming horse, massaging feet, playing
paintball, making a cake, bowling, contact juggling, applying cream, playing badminton
"""
ACTIONS = tuple(" ".join(_NAMES.split()).split(", "))
"""Names by output."""
