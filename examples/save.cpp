// save -- keeps each mail in a file of its own, on stable storage before the sender hears 250.
#include <Net/SMTP/Server.hpp>

#include "arguments.hpp"

using namespace Net::SMTP;

int main(int argc, char** argv) try {
    const Arguments given(argc, argv, "Takes every mail and keeps it in a file of its own.",
                          {listening, {"--dir", "DIR", "where the files are", "", "."}});
    const auto dir = given("--dir");
    Server server(given.all("--listen"), {.spool_dir = dir});
    ready(server);

    // When save() throws, the sender hears 452 and nothing is left in the folder.
    server.run([&](Server::Client& client) { client.MSG.save(dir + '/' + client.MSG.id() + ".eml"); });
} catch (const std::exception& e) {
    std::fprintf(stderr, "save: %s\n", e.what());
    return 1;
}
