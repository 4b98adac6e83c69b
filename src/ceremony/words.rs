//! How does a digest sound? The PGP word list (Zimmermann and Juola, 1995): one word for a byte, from two lists in turn, so
//! that a word left out, doubled or exchanged with its neighbour is heard. This module never shortens a digest.

/// The words of these bytes, with a space between them (CER-6).
pub fn encode(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 9);
    for (index, byte) in bytes.iter().enumerate() {
        out.push_str(if index == 0 { "" } else { " " });
        out.push_str(list(index).split(' ').nth(usize::from(*byte)).unwrap_or_default());
    }
    out
}

/// The bytes of these words; None when a word is not that of its place. Case and white space are as people type them.
pub fn decode(words: &str) -> Option<Vec<u8>> {
    let byte = |(index, word): (usize, &str)| {
        let place = list(index).split(' ').position(|known| known.eq_ignore_ascii_case(word))?;
        u8::try_from(place).ok()
    };
    words.split_ascii_whitespace().enumerate().map(byte).collect()
}

/// Bytes at even places take words of two syllables, those at odd places words of three.
const fn list(index: usize) -> &'static str {
    if index.is_multiple_of(2) { EVEN } else { ODD }
}

const EVEN: &str = "\
    aardvark absurd accrue acme adrift adult afflict ahead aimless Algol allow alone ammo ancient apple artist \
    assume Athens atlas Aztec baboon backfield backward banjo beaming bedlamp beehive beeswax befriend Belfast \
    berserk billiard bison blackjack blockade blowtorch bluebird bombast bookshelf brackish breadline breakup \
    brickyard briefcase Burbank button buzzard cement chairlift chatter checkup chisel choking chopper \
    Christmas clamshell classic classroom cleanup clockwork cobra commence concert cowbell crackdown cranky \
    crowfoot crucial crumpled crusade cubic dashboard deadbolt deckhand dogsled dragnet drainage dreadful \
    drifter dropper drumbeat drunken Dupont dwelling eating edict egghead eightball endorse endow enlist erase \
    escape exceed eyeglass eyetooth facial fallout flagpole flatfoot flytrap fracture framework freedom \
    frighten gazelle Geiger glitter glucose goggles goldfish gremlin guidance hamlet highchair hockey indoors \
    indulge inverse involve island jawbone keyboard kickoff kiwi klaxon locale lockup merit minnow miser Mohawk \
    mural music necklace Neptune newborn nightbird Oakland obtuse offload optic orca payday peachy pheasant \
    physique playhouse Pluto preclude prefer preshrunk printer prowler pupil puppy python quadrant quiver quota \
    ragtime ratchet rebirth reform regain reindeer rematch repay retouch revenge reward rhythm ribcage ringbolt \
    robust rocker ruffled sailboat sawdust scallion scenic scorecard Scotland seabird select sentence shadow \
    shamrock showgirl skullcap skydive slingshot slowdown snapline snapshot snowcap snowslide solo southward \
    soybean spaniel spearhead spellbind spheroid spigot spindle spyglass stagehand stagnate stairway standard \
    stapler steamship sterling stockman stopwatch stormy sugar surmount suspense sweatband swelter tactics \
    talon tapeworm tempest tiger tissue tonic topmost tracker transit trauma treadmill Trojan trouble tumor \
    tunnel tycoon uncut unearth unwind uproot upset upshot vapor village virus Vulcan waffle wallet watchword \
    wayside willow woodlark Zulu";

const ODD: &str = "\
    adroitness adviser aftermath aggregate alkali almighty amulet amusement antenna applicant Apollo armistice \
    article asteroid Atlantic atmosphere autopsy Babylon backwater barbecue belowground bifocals bodyguard \
    bookseller borderline bottomless Bradbury bravado Brazilian breakaway Burlington businessman butterfat \
    Camelot candidate cannonball Capricorn caravan caretaker celebrate cellulose certify chambermaid Cherokee \
    Chicago clergyman coherence combustion commando company component concurrent confidence conformist \
    congregate consensus consulting corporate corrosion councilman crossover crucifix cumbersome customer \
    Dakota decadence December decimal designing detector detergent determine dictator dinosaur direction \
    disable disbelief disruptive distortion document embezzle enchanting enrollment enterprise equation \
    equipment escapade Eskimo everyday examine existence exodus fascinate filament finicky forever fortitude \
    frequency gadgetry Galveston getaway glossary gossamer graduate gravity guitarist hamburger Hamilton \
    handiwork hazardous headwaters hemisphere hesitate hideaway holiness hurricane hydraulic impartial impetus \
    inception indigo inertia infancy inferno informant insincere insurgent integrate intention inventive \
    Istanbul Jamaica Jupiter leprosy letterhead liberty maritime matchmaker maverick Medusa megaton microscope \
    microwave midsummer millionaire miracle misnomer molasses molecule Montana monument mosquito narrative \
    nebula newsletter Norwegian October Ohio onlooker opulent Orlando outfielder Pacific pandemic Pandora \
    paperweight paragon paragraph paramount passenger pedigree Pegasus penetrate perceptive performance \
    pharmacy phonetic photograph pioneer pocketful politeness positive potato processor provincial proximate \
    puberty publisher pyramid quantity racketeer rebellion recipe recover repellent replica reproduce resistor \
    responsive retraction retrieval retrospect revenue revival revolver sandalwood sardonic Saturday savagery \
    scavenger sensation sociable souvenir specialist speculate stethoscope stupendous supportive surrender \
    suspicious sympathy tambourine telephone therapist tobacco tolerance tomorrow torpedo tradition travesty \
    trombonist truncated typewriter ultimate undaunted underfoot unicorn unify universe unravel upcoming \
    vacancy vagabond vertigo Virginia visitor vocalist voyager warranty Waterloo whimsical Wichita Wilmington \
    Wyoming yesteryear Yucatan";

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_fingerprint_that_others_published_is_read_aloud_as_they_read_it() {
        let bytes = hex::decode("e58294f2e9a227486e8b061b31cc528fd7fa3f19").unwrap();
        let words = "topmost Istanbul Pluto vagabond treadmill Pacific brackish dictator goldfish Medusa afflict bravado \
                     chatter revolver Dupont midsummer stopwatch whimsical cowbell bottomless";
        assert_eq!(encode(&bytes), words);
        assert_eq!(decode(&words.to_uppercase()), Some(bytes));
    }

    #[test]
    fn there_are_512_words_in_the_order_of_their_bytes_and_each_comes_back() {
        let all: BTreeSet<String> = EVEN.split(' ').chain(ODD.split(' ')).map(str::to_ascii_lowercase).collect();
        assert_eq!((EVEN.split(' ').count(), ODD.split(' ').count(), all.len()), (256, 256, 512));
        for byte in 0..=255 {
            assert_eq!(decode(&encode(&[byte, byte])), Some(vec![byte, byte]));
        }
    }

    #[test]
    fn words_left_out_exchanged_or_unknown_are_noticed() {
        let words = encode(&[1, 2, 3, 4]);
        let mut listed: Vec<&str> = words.split(' ').collect();
        listed.swap(0, 1);
        assert_eq!(decode(&listed.join(" ")), None);
        assert_eq!(decode(&words.replacen(' ', " keyward ", 1)), None);
        let (_, without) = words.split_once(' ').unwrap();
        assert_eq!(decode(without), None);
    }
}
