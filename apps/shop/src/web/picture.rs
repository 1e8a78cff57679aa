//! Product pictures: small drawings made from a product's shape and colour. A drawing
//! is a few plain figures in four tones of one hue, so the catalogue needs no files and any product has a picture.

use maud::{Markup, html};

/// The four tones of a drawing and two materials.
struct Tones {
    base: String,
    dark: String,
    light: String,
    tile: String,
}

const WOOD: &str = "hsl(30 36% 52%)";
const METAL: &str = "hsl(210 9% 64%)";

/// The picture `shape` in the colour `hue`. It says nothing that the name beside it does not, so that readers of
/// screens pass it by.
pub(super) fn picture(shape: &str, hue: i64) -> Markup {
    let tones = Tones {
        base: format!("hsl({hue} 42% 50%)"),
        dark: format!("hsl({hue} 46% 34%)"),
        light: format!("hsl({hue} 52% 70%)"),
        tile: format!("hsl({hue} 45% 50% / .14)"),
    };
    html! {
        svg class="picture" viewBox="0 0 200 200" aria-hidden="true" {
            // Larger than the picture, to fill a frame of any proportion.
            rect x="-200" y="-200" width="600" height="600" fill=(tones.tile) {}
            ellipse cx="100" cy="166" rx="62" ry="8" fill="hsl(0 0% 0% / .13)" {}
            (drawing(shape, &tones))
        }
    }
}

fn drawing(shape: &str, tones: &Tones) -> Markup {
    match shape {
        "bag" | "blanket" | "towel" | "rope" => soft(shape, tones),
        "book" | "board" | "pencil" => flat(shape, tones),
        "candle" | "lamp" | "lantern" => lit(shape, tones),
        "knife" | "pan" => metal(shape, tones),
        _ => vessel(shape, tones),
    }
}

fn vessel(shape: &str, Tones { base, dark, light, .. }: &Tones) -> Markup {
    html! {
        @match shape {
            "bottle" => {
                path d="M86 36h28v26c0 12 16 18 16 36v58a10 10 0 0 1-10 10H80a10 10 0 0 1-10-10V98c0-18 16-24 16-36z" fill=(base) {}
                rect x="83" y="26" width="34" height="16" rx="4" fill=(dark) {}
                rect x="70" y="108" width="60" height="30" fill=(light) {}
                path d="M80 100c0-12 10-18 12-28" stroke=(light) stroke-width="5" stroke-linecap="round" fill="none" {}
            }
            "jar" => {
                path d="M66 64h68c8 8 10 16 10 26v62a14 14 0 0 1-14 14H70a14 14 0 0 1-14-14V90c0-10 2-18 10-26z" fill=(base) {}
                rect x="62" y="40" width="76" height="26" rx="7" fill=(dark) {}
                rect x="58" y="62" width="84" height="7" rx="3.5" fill=(light) {}
                rect x="76" y="96" width="48" height="38" rx="4" fill=(light) {}
            }
            "bowl" => {
                path d="M36 84h128c0 44-24 76-64 76s-64-32-64-76z" fill=(base) {}
                path d="M76 156h48l4 10H72z" fill=(dark) {}
                ellipse cx="100" cy="84" rx="64" ry="14" fill=(dark) {}
                ellipse cx="100" cy="87" rx="54" ry="9" fill=(light) {}
                path d="M50 112c4 14 12 24 22 31" stroke=(light) stroke-width="5" stroke-linecap="round" fill="none" {}
            }
            // A cup.
            _ => {
                path d="M134 84h12a22 22 0 0 1 0 44h-14" fill="none" stroke=(dark) stroke-width="11" {}
                path d="M50 66h88v62a38 38 0 0 1-38 38H88a38 38 0 0 1-38-38z" fill=(base) {}
                ellipse cx="94" cy="66" rx="44" ry="10" fill=(dark) {}
                ellipse cx="94" cy="68" rx="37" ry="6.5" fill="hsl(26 45% 26%)" {}
                path d="M63 92v34c0 8 3 15 8 20" stroke=(light) stroke-width="5" stroke-linecap="round" fill="none" {}
            }
        }
    }
}

fn metal(shape: &str, Tones { base, dark, light, .. }: &Tones) -> Markup {
    html! {
        @if shape == "knife" {
            g transform="rotate(-38 100 100)" {
                path d="M84 76H192c-10 30-40 40-70 40H84z" fill=(METAL) {}
                path d="M84 104h74c-12 8-24 12-36 12H84z" fill="hsl(210 14% 78%)" {}
                rect x="76" y="74" width="12" height="44" rx="3" fill=(dark) {}
                path d="M8 78h70v34H26C14 112 6 98 8 78z" fill=(base) {}
                circle cx="34" cy="94" r="4" fill=(light) {}
                circle cx="60" cy="94" r="4" fill=(light) {}
            }
        } @else {
            g transform="rotate(-24 84 108)" {
                rect x="126" y="101" width="74" height="14" rx="7" fill=(WOOD) {}
                circle cx="190" cy="108" r="3.5" fill=(dark) {}
            }
            circle cx="82" cy="110" r="56" fill=(dark) {}
            circle cx="82" cy="110" r="47" fill=(base) {}
            path d="M48 104a36 36 0 0 1 30-30" stroke=(light) stroke-width="6" stroke-linecap="round" fill="none" {}
        }
    }
}

fn lit(shape: &str, Tones { base, dark, light, .. }: &Tones) -> Markup {
    html! {
        @match shape {
            "lamp" => {
                path d="M66 98h68l34 66H32z" fill="hsl(46 90% 66% / .28)" {}
                rect x="95" y="94" width="10" height="66" fill=(dark) {}
                rect x="66" y="156" width="68" height="10" rx="5" fill=(dark) {}
                path d="M76 34h48l24 66H52z" fill=(base) {}
                path d="M82 44 66 88" stroke=(light) stroke-width="6" stroke-linecap="round" {}
                rect x="52" y="96" width="96" height="6" rx="3" fill=(light) {}
            }
            "lantern" => {
                path d="M70 52a30 30 0 0 1 60 0" fill="none" stroke=(dark) stroke-width="5" {}
                path d="M76 48h48l12 18H64z" fill=(base) {}
                rect x="68" y="66" width="64" height="80" rx="10" fill="hsl(46 90% 70% / .45)" {}
                path d="M100 84c12 16 15 22 15 31a15 15 0 0 1-30 0c0-9 3-15 15-31z" fill="hsl(36 92% 58%)" {}
                path d="M100 104c6 8 7 11 7 15a7 7 0 0 1-14 0c0-4 1-7 7-15z" fill="hsl(50 95% 78%)" {}
                path d="M68 66v80M132 66v80" stroke=(dark) stroke-width="6" {}
                rect x="58" y="144" width="84" height="22" rx="6" fill=(base) {}
                rect x="66" y="150" width="42" height="5" rx="2.5" fill=(light) {}
            }
            // A candle.
            _ => {
                circle cx="100" cy="50" r="34" fill="hsl(46 95% 66% / .25)" {}
                path d="M100 30c10 14 13 19 13 26a13 13 0 0 1-26 0c0-7 3-12 13-26z" fill="hsl(36 92% 58%)" {}
                path d="M100 66v14" stroke=(dark) stroke-width="4" {}
                path d="M78 80c8-5 36-5 44 0v76H78z" fill=(light) {}
                path d="M78 82c0 14 8 8 8 22s7 8 7-2 8-8 8-20z" fill=(base) {}
                path d="M54 150h92c0 10-8 16-18 16H72c-10 0-18-6-18-16z" fill=(dark) {}
            }
        }
    }
}

fn flat(shape: &str, Tones { base, dark, light, .. }: &Tones) -> Markup {
    html! {
        @match shape {
            "book" => {
                g transform="rotate(-6 100 100)" {
                    rect x="54" y="40" width="98" height="124" rx="5" fill=(dark) {}
                    rect x="60" y="44" width="92" height="114" rx="2" fill="hsl(44 40% 92%)" {}
                    rect x="48" y="36" width="98" height="124" rx="5" fill=(base) {}
                    rect x="48" y="36" width="15" height="124" rx="5" fill=(dark) {}
                    rect x="80" y="62" width="48" height="26" rx="3" fill=(light) {}
                    path d="M128 160v18l-6-6-6 6v-18z" fill=(light) {}
                }
            }
            "board" => {
                g transform="rotate(8 100 100)" {
                    path d="M62 62a12 12 0 0 1 12-12h12V38a14 14 0 0 1 28 0v12h12a12 12 0 0 1 12 12v92a12 12 0 0 1-12 12H74a12 12 0 0 1-12-12z" fill=(base) {}
                    circle cx="100" cy="40" r="5" fill=(dark) {}
                    path d="M78 70v80M92 64v92M108 64v92M122 70v80" stroke=(dark) stroke-width="2" stroke-opacity=".5" {}
                    path d="M70 66v40" stroke=(light) stroke-width="5" stroke-linecap="round" {}
                }
            }
            // A pencil.
            _ => {
                g transform="rotate(40 100 100)" {
                    rect x="86" y="30" width="28" height="102" fill=(base) {}
                    rect x="86" y="30" width="9" height="102" fill=(light) {}
                    rect x="105" y="30" width="9" height="102" fill=(dark) {}
                    rect x="86" y="22" width="28" height="16" fill=(METAL) {}
                    path d="M86 22a14 10 0 0 1 28 0z" fill=(dark) {}
                    path d="M86 132h28l-14 38z" fill="hsl(36 52% 76%)" {}
                    path d="M95 156h10l-5 14z" fill=(dark) {}
                }
            }
        }
    }
}

fn soft(shape: &str, Tones { base, dark, light, .. }: &Tones) -> Markup {
    html! {
        @match shape {
            "bag" => {
                path d="M72 80V62a28 28 0 0 1 56 0v18" fill="none" stroke=(dark) stroke-width="8" {}
                path d="M48 74h104l10 80a12 12 0 0 1-12 12H50a12 12 0 0 1-12-12z" fill=(base) {}
                path d="M60 112h80v36a8 8 0 0 1-8 8H68a8 8 0 0 1-8-8z" fill=(dark) fill-opacity=".55" {}
                path d="M60 112h80" stroke=(light) stroke-width="5" stroke-linecap="round" {}
                rect x="93" y="106" width="14" height="18" rx="3" fill=(light) {}
                path d="M46 92h108" stroke=(dark) stroke-width="3" stroke-dasharray="6 5" {}
            }
            "blanket" => {
                rect x="38" y="126" width="124" height="38" rx="16" fill=(dark) {}
                rect x="42" y="94" width="116" height="38" rx="16" fill=(base) {}
                rect x="46" y="62" width="108" height="38" rx="16" fill=(light) {}
                path d="M58 68v26M70 68v26M130 68v26M142 68v26" stroke=(dark) stroke-width="4" {}
                path d="M56 100v26M68 100v26M132 100v26M144 100v26" stroke=(light) stroke-width="4" {}
                path d="M54 132v26M66 132v26M134 132v26M146 132v26" stroke=(base) stroke-width="4" {}
            }
            "rope" => {
                @for (radius, tone) in [(54, dark), (42, base), (30, dark), (18, base)] {
                    ellipse cx="100" cy="112" rx=(radius) ry=(radius * 4 / 5) fill="none" stroke=(tone) stroke-width="11" {}
                    ellipse cx="100" cy="112" rx=(radius) ry=(radius * 4 / 5) fill="none" stroke=(light) stroke-width="9" stroke-dasharray="2 9" {}
                }
                path d="M150 96c14-10 8-34 18-48" fill="none" stroke=(base) stroke-width="11" stroke-linecap="round" {}
                path d="M166 54l4-10" stroke=(light) stroke-width="11" {}
            }
            // A towel on a rail.
            _ => {
                rect x="30" y="44" width="140" height="8" rx="4" fill=(WOOD) {}
                rect x="112" y="40" width="40" height="82" rx="3" fill=(dark) {}
                path d="M52 40h76v116H52z" fill=(base) {}
                path d="M52 124h76M52 134h76" stroke=(light) stroke-width="5" {}
                path d="M52 156h76v6H52z" fill=(light) fill-opacity=".7" {}
                path d="M66 52v60" stroke=(light) stroke-width="4" stroke-linecap="round" stroke-opacity=".6" {}
            }
        }
    }
}
