"""Sample data in the shape of the open-data file of wine tastings: `;`, a byte order mark, CRLF, 57 French columns.

Seeded: a date always has the same file, and two dates differ by some offers that opened, closed or changed.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from random import Random

FILES = "inbox/activities_{date}.csv"  # of the sample
MADE = ("inbox",)
OFFERS = 600
SEED = 20240120
YES_NO = "oui / non"
HEADER = (
    "Nom de l'offre touristique", "Type d'offre", "Adresse1", "Adresse1Suite", "Adresse partie 2", "Adresse partie 3",
    "Code postal", "Bureau distributeur de l'adresse postale", "Commune du lieu de visite", "Cedex",
    "Code Insee de la Commune", "Latitude", "Longitude", "Situation de l'offre", "N° de téléphone mobile",
    "N° de téléphone fixe", "N° de fax", "Adresse e-Mail", "Url du site web", "Url pour accéder à la vidéo",
    "Code Embed pour intégrer une vidéo", "Type de plateforme/url", "Widget tripadvisor", "Secteur d'activité",
    "Labels", "Label tourisme handicap", f"Animal accepté: {YES_NO}", "Complément information animal accepté",
    f"Groupe accepté: {YES_NO}", "Nombre personnes max pour les groupes", "Nombre personnes min pour les groupes",
    "Langues parlées à l'accueil", "Appellation pour les vins", f"Dégustations gratuites: {YES_NO}",
    f"Salle équipée pour dégustation: {YES_NO}", f"Vente à la propriété: {YES_NO}",
    "Durée de visite pour les individuels", "Durée de visite pour les groupes",
    f"Visites guidées proposées aux groupes en permanence: {YES_NO}",
    f"Visites guidées proposées aux groupes sur demande: {YES_NO}",
    f"Visites libres proposées aux groupes en permanence: {YES_NO}",
    f"Visites pédagogiques proposées aux groupes en permanence: {YES_NO}",
    f"Visites guidées proposées aux individuels en permanence: {YES_NO}",
    f"Visites guidées proposées aux individuels sur demande: {YES_NO}", "Langue(s) parlée(s) pendant les visites",
    f"Visites libres proposées aux individuels en permanence: {YES_NO}", "Les offres proposées",
    f"Ouvert toute l'année: {YES_NO}", "Horaires d'ouvertures", "Moyen(s) de réservation directe",
    "Moyen(s) de réservation en ligne", "Centrale de réservation en ligne?", f"Tarif gratuit : {YES_NO}", "Tarif",
    "Modes de paiement acceptés", "localisation", "departement",
)

# Code and name of the department, post codes with their towns, latitude and longitude, and wines.
DEPARTMENTS = (
    ("01", "Ain", (("01150", "Vaux-en-Bugey"), ("01300", "Belley"), ("01450", "Cerdon")), 45.95, 5.45,
     ("Bugey", "Bugey Cerdon", "Roussette du Bugey")),
    ("03", "Allier", (("03500", "Saint-Pourçain-sur-Sioule"), ("03140", "Chantelle")), 46.31, 3.29,
     ("Saint-Pourçain",)),
    ("07", "Ardèche", (("07300", "Mauves"), ("07120", "Ruoms"), ("07700", "Saint-Marcel-d'Ardèche")), 44.72, 4.55,
     ("Saint-Joseph", "Cornas", "Saint-Péray", "Côtes du Vivarais")),
    ("26", "Drôme", (("26600", "Tain-l'Hermitage"), ("26110", "Nyons"), ("26150", "Die")), 44.83, 5.12,
     ("Hermitage", "Crozes-Hermitage", "Clairette de Die", "Vinsobres")),
    ("69", "Rhône", (("69460", "Odenas"), ("69820", "Fleurie"), ("69420", "Condrieu")), 45.98, 4.62,
     ("Brouilly", "Fleurie", "Morgon", "Condrieu", "Beaujolais Villages")),
    ("73", "Savoie", (("73800", "Chignin"), ("73190", "Apremont")), 45.49, 6.02, ("Chignin-Bergeron", "Apremont",
                                                                                 "Roussette de Savoie")),
)
TYPES = ("Dégustation", "Cave, caveau", "Visite de vignoble", "Musée, écomusée", "Atelier œnologique")
SECTORS = ("Viticulture", "Céramique, faïence, émail", "Bière, spiritueux", "Fromage", "Tourisme de savoir-faire")
LABELS = ("Vignobles & Découvertes", "Bienvenue à la ferme", "Haute Valeur Environnementale", "Agriculture biologique",
          "Qualité Tourisme")
LANGUAGES = ("Français", "Anglais", "Allemand", "Italien", "Espagnol", "Langue des signes, LSF")
PAYMENTS = ("Espèces", "Carte bancaire", "Chèques bancaires et postaux", "Titres, chèques vacances", "Virement")
SERVICES = ("Dégustation commentée", "Balade dans les vignes", "Repas, brunch", "Vente de vin")
HOUSES = ("Domaine", "Château", "Clos", "Cave", "Maison", "Vignoble")
NAMES = ("des Roches", "du Moulin", "de la Côte", "des Éboulis", "d'Arloz", "Saint-Vincent", "du Vieux Pressoir",
         "des Terres d'Or", "de l'Écluse", "des Amandiers")


def rows(day: date) -> list[list[str]]:
    """The file's rows of a date, in the order of HEADER. Some offers are not in it on some dates."""
    ordinal = day.toordinal()
    offers = (_offer(number, ordinal) for number in range(OFFERS) if (number * 31 + ordinal) % 97 > ordinal % 4)
    return [[offer.get(name, "") for name in HEADER] for offer in offers]


def generate(day: date) -> None:
    """Write the file of a date."""
    path = Path(FILES.format(date=day))
    path.parent.mkdir(exist_ok=True)
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file, delimiter=";", lineterminator="\r\n")
        writer.writerow(HEADER)
        writer.writerows(rows(day))
    print(f"{path} has {len(rows(day)):,} offers", flush=True)


def _offer(number: int, ordinal: int) -> dict[str, str]:
    """One offer; some things about it change from day to day."""
    random = Random(SEED + number)
    code, department, towns, latitude, longitude, wines = random.choice(DEPARTMENTS)
    post_code, town = random.choice(towns)
    latitude, longitude = latitude + random.uniform(-0.3, 0.3), longitude + random.uniform(-0.3, 0.3)
    place = (f"{latitude:.{random.randint(5, 15)}f}", f"{longitude:.{random.randint(5, 15)}f}")
    kinds, languages = _some(random, TYPES, 1, 2), _some(random, LANGUAGES, 0, 4)
    return {
        "Nom de l'offre touristique": f"{random.choice(HOUSES)} {random.choice(NAMES)} n° {number}",
        "Type d'offre": _packed(random, kinds),
        **_address(random, post_code, town),
        "Code Insee de la Commune": f"{code}{random.randint(1, 450):03}",
        "Latitude": place[0], "Longitude": place[1], "localisation": ", ".join(place), "departement": department,
        "Situation de l'offre": random.choice(["", "Centre-ville, bourg", "À la campagne;\nparking"]),
        "N° de téléphone fixe": f"04 {random.randint(10, 99)} {random.randint(10, 99)} 00 {number % 100:02}",
        "Adresse e-Mail": f"offre{number}@example.com" if random.random() < 0.8 else "",
        "Url du site web": f"https://example.com/{number}",
        "Secteur d'activité": _packed(random, _some(random, SECTORS, 1, 3)),
        "Labels": _packed(random, _some(random, LABELS, 0, 3)),
        "Appellation pour les vins": _packed(random, _some(random, wines, 0, 3)),
        "Langues parlées à l'accueil": _packed(random, languages),
        "Langue(s) parlée(s) pendant les visites": _packed(random, languages[:2]),
        "Les offres proposées": _packed(random, _some(random, SERVICES, 0, 3)),
        "Modes de paiement acceptés": _packed(random, _some(random, PAYMENTS, 0, 4)),
        **_groups(random), **_visits(random),
        "Durée de visite pour les individuels": random.choice(["", "45 min", "1h"]),
        "Horaires d'ouvertures": 'Tous les jours "sauf dimanche", 10h à 18h' if number % 3 else "",
        "Tarif": f"{5 + (number + ordinal) % 9 // 4} € par personne" if number % 4 else "",  # changes day by day
        f"Ouvert toute l'année: {YES_NO}": ("oui", "non")[(number + ordinal) % 53 == 0],
    }


def _some(random: Random, values: Sequence[str], least: int, most: int) -> list[str]:
    return random.sample(values, min(random.randint(least, most), len(values)))


def _packed(random: Random, values: Sequence[str]) -> str:
    """Values as the file packs them, now and then one twice, with spaces, or with nothing between two commas."""
    values = [*values, *values[:1]] if random.random() < 0.1 else [*values]
    text = ",".join(f"{value} " if random.random() < 0.05 else value for value in values)
    return text + "," if values and random.random() < 0.05 else text


def _address(random: Random, post_code: str, town: str) -> dict[str, str]:
    """An address of which any part, or all, may be missing."""
    parts = {"Adresse1": f"{random.randint(1, 90)} route des Vins", "Adresse1Suite": "Bâtiment B",
             "Adresse partie 2": "Le Bourg", "Adresse partie 3": "BP 12"}
    chances = (0.85, 0.1, 0.2, 0.05)
    address = {name: value for (name, value), chance in zip(parts.items(), chances, strict=True)
               if random.random() < chance}
    if random.random() < 0.9:
        address["Code postal"] = post_code
    cedex = {"Cedex": "CEDEX 1"} if random.random() < 0.03 else {}
    return {**address, **cedex, "Bureau distributeur de l'adresse postale": town.upper(),
            "Commune du lieu de visite": town}


def _groups(random: Random) -> dict[str, str]:
    accepted = _yes_no(random)
    many = accepted.strip().lower() == "oui" and random.random() < 0.8
    return {f"Groupe accepté: {YES_NO}": accepted,
            "Nombre personnes max pour les groupes": str(random.randint(10, 80)) if many else "",
            "Nombre personnes min pour les groupes": str(random.randint(2, 9)) if many else "",
            "Durée de visite pour les groupes": random.choice(["1h30", "90", "2 heures"]) if many else ""}


def _visits(random: Random) -> dict[str, str]:
    """The other columns of yes and no."""
    given = {"Ouvert toute l'année", "Groupe accepté"}
    return {name: _yes_no(random) for name in HEADER if name.endswith(YES_NO) and name.split(":")[0] not in given}


def _yes_no(random: Random) -> str:
    """Mostly `oui` and `non`, often nothing, seldom something else."""
    return random.choices(["oui", "non", "", "Oui", "NON", " oui ", "sur demande"], [45, 25, 22, 3, 2, 2, 0.1])[0]
