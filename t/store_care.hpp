// store_care -- promises of stores: to hold, release, flush and cancel mail, and to tell what there is.
#pragma once

#include "store_place.hpp"

namespace test::stores {

inline const std::vector<Promise> care_promises{
    {"mail that is held is not given out until it is released",
     [](StorePlace& place) {
         const auto store = leading(place);
         auto mail = letter("m", {"a@example.org", "b@example.com"});
         mail.held = true;
         store->put(mail);
         for (int i = 0; i < 2; ++i) {
             MUST(claim(*store).empty() && store->claim("example.org", queue_now() + 24h * 365, 10).empty());
             MUST(store->domains(std::nullopt, 10).empty());
             MUST(!store->due("example.org"));
             const auto item = store->item("m");
             MUST(item->held && !item->in_flight());
             for (const auto& to : item->to) MUST(to.due == never_due);
             MUST(store->stats().held == 1);
             MUST(store->flush("m") == 0 && store->flush_domain("example.org") == 0 && store->flush_all() == 0);
             MUST(claim(*store).empty());
             MUST(store->release("m"));
             MUST(!store->item("m")->held);
             MUST(store->stats().held == 0);
             MUST(names(store->domains(std::nullopt, 10)) == std::vector<std::string>{"example.com", "example.org"});
             MUST(store->hold("m"));
         }
         MUST(store->hold("m"));
         MUST(store->release("m"));
         MUST(store->release("m"));
         MUST(claim(*store).size() == 1 && claim(*store, "example.com").size() == 1);
         MUST(!store->hold("x") && !store->release("x"));
     }},
    {"what is given out goes its way while its message is held; what comes back is held",
     [](StorePlace& place) {
         const auto store = leading(place);
         auto mail = letter("m");
         mail.to = recipients(3, "example.org");
         store->put(mail);
         const auto task = only(claim(*store));
         MUST(store->hold("m"));
         MUST(store->text(task).view() == mail.text.view());
         MUST(store->item("m")->in_flight());
         MUST(record(*store, task, {done(0), later(1, queue_now() - 1s)}));
         store->give_back(task);
         MUST(claim(*store).empty());
         MUST(store->flush_all() == 0);
         MUST(!store->due("example.org"));
         auto item = store->item("m");
         MUST(item->held && !item->in_flight() && item->to.size() == 2);
         for (const auto& to : item->to) MUST(to.due == never_due);
         MUST(item->to.front().attempts == 1);
         MUST(store->release("m"));
         MUST(numbers(only(claim(*store))) == std::vector<std::uint32_t>{1, 2});
     }},
    {"a release while some of it is out gives nothing out twice",
     [](StorePlace& place) {
         const auto store = leading(place);
         store->put(letter("m", {"a@example.org", "b@example.org"}));
         const auto task = only(claim(*store, "example.org", 1));
         MUST(store->hold("m"));
         MUST(claim(*store).empty());
         MUST(store->release("m"));
         const auto rest = only(claim(*store));
         MUST(rest.to.size() == 1 && rest.to.front().number != task.to.front().number);
         MUST(finish(*store, task) && finish(*store, rest));
         MUST(!store->item("m"));
     }},
    {"flush makes what is waiting due now: of a message, of a domain, of all; and says of how many recipients",
     [](StorePlace& place) {
         const auto store = leading(place);
         const auto soon = queue_now() + 1h;
         auto mail = letter("a", {"1@example.org", "2@Example.org", "3@example.com"});
         mail.due = soon;
         store->put(mail);
         store->put(letter("b", soon));
         store->put(letter("c", soon, "x@sub.example.org"));
         mail.id = "held";
         mail.held = true;
         store->put(mail);
         MUST(store->flush("x") == 0 && store->flush_domain("example.net") == 0 && store->flush_domain("") == 0);
         MUST(claim(*store).empty());

         MUST(store->flush("a") == 3);
         MUST(store->due("example.com").value() <= queue_now());
         const auto a = only(claim(*store));
         MUST(a.id == "a" && a.to.size() == 2);
         MUST(defer(*store, a, soon));
         MUST(store->flush_domain("example.org") == 3);
         const auto both = claim(*store);
         MUST(recipients_in(both) == 3);
         MUST(claim(*store, "sub.example.org").empty());
         for (const auto& task : both) MUST(defer(*store, task, soon));

         const auto com = only(claim(*store, "example.com"));
         MUST(store->flush_all() == 4);
         MUST(recipients_in(claim(*store)) == 3 && claim(*store, "sub.example.org").size() == 1);
         // What was out is due when its verdict says.
         MUST(defer(*store, com, soon));
         MUST(claim(*store, "example.com").empty());
         MUST(store->item("held")->held);
     }},
    {"cancel: found, and then it is gone; not found; in flight, and nothing has changed",
     [](StorePlace& place) {
         const auto store = leading(place);
         MUST(store->cancel("m") == Cancelled::not_found);
         store->put(letter("m", {"a@example.org", "b@example.com"}));
         store->put(letter("held"));
         MUST(store->hold("held"));
         MUST(store->cancel("M") == Cancelled::not_found);
         const auto task = only(claim(*store));
         MUST(store->cancel("m") == Cancelled::in_flight);
         MUST(store->item("m")->to.size() == 2);
         MUST(store->text(task).view() == letter("m").text.view());
         MUST(record(*store, task, {later(0, queue_now() + 1h)}));
         const auto other = place.open();
         MUST(other->cancel("m") == Cancelled::found);
         MUST(!store->item("m") && !store->look("m"));
         MUST(store->cancel("m") == Cancelled::not_found);
         MUST(store->domains(std::nullopt, 10).empty());
         MUST(store->cancel("held") == Cancelled::found);
         MUST(store->stats().messages == 0 && store->stats().octets == 0 && store->stats().held == 0);
     }},
    {"a message of which some is delivered and the rest waits can be cancelled",
     [](StorePlace& place) {
         const auto store = leading(place);
         store->put(letter("m", {"a@example.org", "b@example.org"}));
         const auto task = only(claim(*store));
         MUST(record(*store, task, {done(0)}));
         MUST(store->cancel("m") == Cancelled::in_flight);
         store->give_back(task);
         MUST(store->cancel("m") == Cancelled::found);
         MUST(store->items(0, 10).empty() && claim(*store).empty());
     }},
    {"items come in the order they came, by pages over thousands, each once",
     [](StorePlace& place) {
         const auto store = leading(place);
         std::vector<std::string> expected;
         for (int i = 0; i < 2500; ++i) expected.push_back("m" + std::to_string(i));
         // The order of putting is that of one thread; the others fill up what it takes to be thousands.
         at_once(8, [&](int part) {
             for (std::size_t i = std::size_t(part); i < 2000; i += 8)
                 store->put(letter(expected[i], {"a@example.org", "b@example.com"}));
         });
         for (std::size_t i = 2000; i < 2500; ++i) store->put(letter(expected[i]));
         std::vector<QueueItem> found;
         while (found.size() <= expected.size()) {
             const auto page = store->items(found.empty() ? 0 : found.back().message, 700);
             MUST(page.size() <= 700);
             if (page.empty()) break;
             found.insert(found.end(), page.begin(), page.end());
         }
         for (std::size_t i = 1; i < found.size(); ++i) MUST(found[i - 1].message < found[i].message);
         auto seen = ids(found);
         MUST(std::equal(seen.begin() + 2000, seen.end(), expected.begin() + 2000, expected.end()));
         std::ranges::sort(seen);
         std::ranges::sort(expected);
         MUST(seen == expected);
         for (std::size_t i = 0; i < 2000; ++i) MUST(found[i].to.size() == 2);
         MUST(store->items(found.back().message, 10).empty());
         MUST(store->items(0, 0).empty());
         MUST(store->items(found[9].message, 1).front().id == found[10].id);
     }},
    {"an item shows what is in flight, and what was tried",
     [](StorePlace& place) {
         const auto store = leading(place);
         store->put(letter("m", {"a@example.org", "b@example.com"}));
         auto item = store->item("m");
         MUST(!item->in_flight() && !item->held);
         for (const auto& to : item->to) MUST(to.attempts == 0 && to.last.code == 0 && to.host.empty());
         const auto task = only(claim(*store, "example.com"));
         item = place.open()->item("m");
         MUST(item->in_flight());
         MUST(!item->to[0].in_flight && item->to[1].in_flight);
         MUST(item->message == task.message);
         MUST(store->items(0, 1).front().to[1].in_flight);
         MUST(store->stats().in_flight == 1);
         MUST(defer(*store, task, queue_now() + 1h));
         item = store->item("m");
         MUST(!item->in_flight());
         MUST(item->to[0].attempts == 0 && item->to[1].attempts == 1 && item->to[1].last.code == 451);
         MUST(!store->item("x") && !store->item("") && !store->look("x"));
     }},
    {"the numbers are right after all that may happen",
     [](StorePlace& place) {
         const auto store = leading(place);
         const auto are = [&](std::uint64_t messages, std::uint64_t to, std::uint64_t held, std::uint64_t in_flight) {
             const auto stats = store->stats();
             return stats.messages == messages && stats.recipients == to && stats.held == held &&
                    stats.in_flight == in_flight;
         };
         MUST(are(0, 0, 0, 0) && store->stats().octets == 0 && !store->stats().oldest);
         auto mail = letter("a", {"1@example.org", "2@example.org", "3@example.com"});
         mail.text = Message(binary(200'000));
         const auto oldest = mail.arrived = queue_now() - 1h;
         store->put(mail);
         mail.id = "b";
         mail.arrived = queue_now() - 1min;
         mail.held = true;
         store->put(mail);
         MUST(are(2, 6, 1, 0) && store->stats().octets == 400'000 && store->stats().oldest == oldest);
         const auto task = only(claim(*store));
         MUST(are(2, 6, 1, 2));
         MUST(store->hold("a") && are(2, 6, 2, 2));
         MUST(record(*store, task, {done(0)}) && are(2, 5, 2, 1));
         store->give_back(task);
         MUST(are(2, 5, 2, 0));
         MUST(store->cancel("a") == Cancelled::found);
         MUST(are(1, 3, 1, 0) && store->stats().octets == 200'000 && store->stats().oldest == mail.arrived);
         MUST(store->release("b") && are(1, 3, 0, 0));
         MUST(finish(*store, only(claim(*store))) && finish(*store, only(claim(*store, "example.com"))));
         MUST(are(0, 0, 0, 0) && store->stats().octets == 0 && !store->stats().oldest);
     }},
    {"a store says what it is", [](StorePlace& place) { MUST(!place.open()->name().empty()); }},
};

}  // namespace test::stores
