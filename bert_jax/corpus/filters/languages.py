"""The languages whose sentences can be split."""

from bert_jax.common.errors import UserError

# ISO 639-1. sentencex has rules for some thirty of them; others use those of a related language
# (Galician those of Portuguese) or the general rules.
_ISO_639_1 = """
aa ab ae af ak am an ar as av ay az ba be bg bh bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de
dv dz ee el en eo es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id
ie ig ii ik io is it iu ja jv ka kg ki kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu
lv mg mh mi mk ml mn mr ms mt my na nb nd ne ng nl nn no nr nv ny oc oj om or os pa pi pl ps pt qu
rm rn ro ru rw sa sc sd se sg sh si sk sl sm sn so sq sr ss st su sv sw ta te tg th ti tk tl tn to
tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu
"""
ISO_639_1 = frozenset(_ISO_639_1.split())
# Three letters (ISO 639-3): languages that sentencex maps to a related one.
_RELATED = """
aae abs ace acm ady aeb aln als alt ami anp apc arn arq ary arz ast atj avk awa azb ban bar bbc
bcc bci bdr bew bgn bjn blk bpy bqi btm bug bxr cdo cpx crh csb dsb dtp dty dua egl eml ext fit
fon frc frp frr fur gag gan gcf gcr gld glk gom gor gsw guc hak hif hke hrx hsb hsn hyw iba inh
jut kaa kab kbd kbp kea kge khw kiu kjh kjp koi krc krl ksh ksw kum lad lbe lez lij liv ljp lki
lld lmo lrc ltg lua luz lzh lzz mad mag mai mdf mhr min mnw mrj mui mwl myv mzn nah nan nap nds
nia nrm nyo olo pcd pdc pdt pfl pms pnt pwn qug rgn rmy rsk rue rup ruq rut sah scn sdc sdh ses
sgs shi shy sjd skr sli sma smn srn sro stq sty szl szy tay tcy tet trv ttj tyv udm vec vep vls
vmf vmw vot vro wls wuu xal xmf yue zea
"""
RELATED = frozenset(_RELATED.split())


def check_language(code: str, where: str) -> None:
    """Raise if a language is not known, so that a typo does not select another language's rules.

    Args:
      code: ISO 639-1, or ISO 639-3 of `RELATED`; a script or region may follow: `zh-hant`.
      where: the config field that has it.

    Raises:
      UserError: it is none of them.
    """
    if code.partition("-")[0] not in ISO_639_1 | RELATED:
        raise UserError(
            f"{where}={code!r} is not a known language code: write two letters (ISO 639-1), such "
            f"as {', '.join(('ar', 'de', 'en', 'es', 'fr', 'hi', 'ja', 'ru', 'zh'))}; known are "
            f"{' '.join(sorted(ISO_639_1))}, and of three letters {' '.join(sorted(RELATED))}"
        )
